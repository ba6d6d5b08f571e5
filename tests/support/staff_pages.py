"""Reading and pressing on the pages of staff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from db.models import User
from domain.actors import StaffRole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session
    from streamlit.testing.v1 import AppTest

    from domain.actors import Actor


@pytest.fixture
def admin(session: Session, make_person: Callable[[StaffRole], Actor]) -> Actor:
    """The person who looks: number 1."""
    found = make_person(StaffRole.ADMIN)
    session.commit()
    assert found.user_id == 1
    return found


@pytest.fixture
def page(staff_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    def shown(role: StaffRole = StaffRole.ADMIN, **query: str) -> AppTest:
        return staff_page("staff", role, **query)

    return shown


def texts(elements: Any) -> list[str]:
    """Return the words, without what keeps an address from becoming a link."""
    return [element.value.replace("\\", "").replace(":color[]{}", "") for element in elements]


def field(app: AppTest, name: str) -> Any:
    """Return the field of a form, whose key is another one each time that it was emptied."""
    (found,) = [each for each in app.text_input if (each.key or "").startswith(f"{name}-")]
    return found


def press(app: AppTest, label: str) -> AppTest:
    (button,) = [each for each in app.button if each.label == label]
    button.click().run()
    assert not app.exception
    return app


def email_of(session: Session, person: Actor) -> str:
    return session.scalars(select(User.email).where(User.id == person.user_id)).one()


def labels(app: AppTest) -> set[str]:
    return {each.label for each in app.button}


def facts(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


def shown(app: AppTest) -> list[str]:
    """Return the words and the labels of a page, in the order in which they stand."""

    def walk(block: Any) -> Iterator[str]:
        for child in block.children.values():
            if hasattr(child, "children"):
                yield from walk(child)
            else:
                text_of = getattr(child, "label", None) or getattr(child, "value", "")
                yield str(text_of).replace("\\", "").replace(":color[]{}", "")

    return list(walk(app.main))
