"""Log lines: one an event, with the id and the actor, and with nobody's mail address."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import streamlit.logger
from streamlit import config

from domain.actors import MemberRole, StaffRole, system_actor, user_actor
from portal.runtime import logs
from portal.runtime.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from domain.actors import Actor


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], io.StringIO]]:
    """Set up the log in a form, and return what it is written to."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def set_up(form: str, level_name: str = "") -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr("sys.stderr", written)
        logs.set_up(load_settings({"LOG_FORMAT": form, "LOG_LEVEL": level_name}))
        return written

    yield set_up
    root.handlers[:] = handlers
    root.setLevel(level)


def objects(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_json_has_the_id_the_actor_and_every_given_figure(
    lines: Callable[..., io.StringIO],
) -> None:
    written = lines("json")
    activity = logs.begin()
    logs.name_actor(user_actor(7, staff_role=StaffRole.FINANCE))
    logging.getLogger("portal.test").info("GET %s", "/sessions", extra={"status": 200})
    (line,) = objects(written)
    assert line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "logger": "portal.test",
        "message": "GET /sessions",
        "status": 200,
        "request_id": activity.id,
        "actor": "user:7",
        "role": "finance",
    }


def test_a_traceback_is_one_line_of_json(lines: Callable[..., io.StringIO]) -> None:
    written = lines("json")
    try:
        int("no")
    except ValueError:
        logging.getLogger("portal.test").exception("it failed")
    (line,) = objects(written)
    assert line["message"] == "it failed"
    assert "ValueError: invalid literal" in line["exception"]


def test_text_ends_with_the_id_and_the_actor(lines: Callable[..., io.StringIO]) -> None:
    written = lines("text")
    activity = logs.begin()
    logs.name_actor(user_actor(7, memberships={3: MemberRole.OWNER}))
    logging.getLogger("portal.test").warning("slow")
    logging.getLogger("portal.test").info("not worth a word at a terminal")
    assert written.getvalue() == f"WARNING portal.test: slow [{activity.id} user:7 member]\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_has_a_mail_address(lines: Callable[..., io.StringIO], form: str) -> None:
    written = lines(form)
    logging.getLogger("portal.test").error(
        "Key (email)=(lan.tran+x@mail.example.com) exists, as does <Bo@example.org>"
    )
    text = written.getvalue()
    assert "example" not in text
    assert "lan.tran" not in text
    assert text.count("(mail address)") == 2
    assert "Key (email)=(" in text


def test_what_streamlit_says_comes_in_the_same_form(lines: Callable[..., io.StringIO]) -> None:
    library = logging.getLogger("streamlit.sample_of_this_test")
    library.propagate = False
    library.addHandler(logging.StreamHandler())
    written = lines("json")
    library.warning("a library's line")
    assert [line["message"] for line in objects(written)] == ["a library's line"]


@pytest.mark.parametrize(
    ("actor", "name", "role"),
    [
        (user_actor(1), "user:1", "none"),
        (user_actor(1, memberships={1: MemberRole.READER}), "user:1", "member"),
        (user_actor(1, staff_role=StaffRole.SUPPORT), "user:1", "support"),
        (system_actor("jobs"), "system:jobs", "none"),
    ],
)
def test_an_actor_has_a_role(actor: Actor, name: str, role: str) -> None:
    activity = logs.begin()
    logs.name_actor(actor)
    assert (activity.actor, activity.role) == (name, role)


def test_ids_are_never_the_same() -> None:
    assert len({logs.begin().id for _ in range(1000)}) == 1000


def test_loggers_that_streamlit_makes_later_write_one_line_too(
    lines: Callable[..., io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamlit.logger, "setup_formatter", streamlit.logger.setup_formatter)
    written = lines("json")
    late = streamlit.logger.get_logger("streamlit.late_sample_of_this_test")
    try:
        raise ValueError('x"}\n{"level": "INFO", "message": "all is well"}')  # noqa: TRY301 - as a page would
    except ValueError as error:
        late.error("Uncaught something", exc_info=error)
    (line,) = objects(written)
    assert line["message"] == "Uncaught something"


def test_what_a_page_raises_has_one_line(lines: Callable[..., io.StringIO]) -> None:
    """Streamlit's own, which has no number, is dropped; portal/shell/page_runs.py writes it."""
    written = lines("json")
    logging.getLogger("streamlit.error_util").error("Uncaught app execution")
    logging.getLogger("streamlit.error_util").error("something else")
    assert [line["message"] for line in objects(written)] == ["something else"]


def test_no_text_that_came_in_looks_like_a_line_of_text(lines: Callable[..., io.StringIO]) -> None:
    written = lines("text")
    logging.getLogger("portal.test").error("no such name: x\nERROR portal.ledger: all is lost\r\v")
    first, *rest = written.getvalue().splitlines()
    assert first.startswith("ERROR portal.test: no such name: x")
    assert all(line.startswith("    ") or not line for line in rest)


def test_tracebacks_are_not_drawn_in_colours() -> None:
    assert config.get_option("logger.enableRich") is False
