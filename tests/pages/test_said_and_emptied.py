"""What a page says after an action comes into view, and a form is empty once it was carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from streamlit.testing.v1 import AppTest

from portal.ui import forms

if TYPE_CHECKING:
    import pytest


def script() -> None:
    import streamlit as st  # noqa: PLC0415 - the function is a script of its own

    from portal.ui import flash, forms  # noqa: PLC0415

    with st.form(forms.key("wishes", "form")):
        typed = st.text_input("Wish", key=forms.key("wishes", "options"))
        is_sent = st.form_submit_button("Send")
    if is_sent and not typed.startswith("please"):
        flash.leave("wishes", "Say please.", is_good=False)
    if is_sent:
        forms.empty("wishes")
        flash.leave("wishes", f"Granted, {typed}")
    flash.show("wishes")


def send(app: AppTest, wish: str) -> AppTest:
    app.text_input[0].set_value(wish)
    app.button[0].click().run()
    assert not app.exception
    return app


def scripts(app: AppTest) -> list[str]:
    return [each.proto.body for each in app.get("html")]


def test_form_keeps_what_was_refused_and_is_empty_once_it_was_done() -> None:
    app = AppTest.from_function(script).run()
    for _ in range(2):  # the second time is like the first
        app = send(app, "bread")
        assert [each.value for each in app.error] == ["Say please."]
        assert app.text_input[0].value == "bread"
        app = send(app, "please, bread")
        assert [each.value for each in app.success] == ["Granted, please, bread"]
        assert not app.text_input[0].value


def test_message_is_brought_into_view_once() -> None:
    app = AppTest.from_function(script).run()
    assert not scripts(app)
    (first,) = scripts(send(app, "bread"))
    assert '"st-key-drawn-flash-wishes"' in first
    assert "scrollIntoView" in first
    (second,) = scripts(send(app, "bread"))
    assert second != first, "a browser runs a script that it has not run"
    assert not scripts(app.run())


def test_forms_are_emptied_each_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "session_state", {})
    before = forms.key("a", "field"), forms.key("b", "field")
    forms.empty("a")
    assert forms.key("a", "field") != before[0]
    assert forms.key("b", "field") == before[1]
