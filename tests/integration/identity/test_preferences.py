"""How people want to be shown things is theirs alone to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from domain.actors import user_actor
from domain.errors import InvalidInput, NotAuthorised, NotFound
from domain.identity import create_user
from domain.identity.preferences import save_preferences, time_zones
from portal.ui import formats
from tests.factories import SYSTEM

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@pytest.fixture
def people(session: Session) -> tuple[int, int]:
    first, second = (
        create_user(
            session,
            email=f"{name}@example.com",
            display_name=name,
            password="a password of some length",
            staff_role=None,
            actor=SYSTEM,
        )
        for name in ("first", "second")
    )
    return first, second


def kept(session: Session, user_id: int) -> tuple[str | None, str | None]:
    row = session.execute(
        text("SELECT locale, time_zone FROM users WHERE id = :id"), {"id": user_id}
    ).one()
    return row.locale, row.time_zone


def looks(session: Session) -> list[tuple[str, list[str]]]:
    rows = session.execute(
        text("SELECT actor, details FROM audit_log WHERE action = 'save_preferences' ORDER BY id")
    )
    return [(row.actor, row.details["changed"]) for row in rows]


def test_a_choice_is_kept_for_its_person_and_written_down_once(
    session: Session, people: tuple[int, int]
) -> None:
    me, other = people
    before = kept(session, other)
    actor = user_actor(me)
    assert save_preferences(session, actor=actor, locale="en", time_zone="Asia/Ho_Chi_Minh")
    assert kept(session, me) == ("en", "Asia/Ho_Chi_Minh")
    assert kept(session, other) == before
    again = save_preferences(session, actor=actor, locale="en", time_zone="Asia/Ho_Chi_Minh")
    assert not again
    assert len(looks(session)) == 1
    assert looks(session)[0][0] == f"user:{me}"
    assert "time_zone" in looks(session)[0][1]


def test_the_browsers_word_can_be_had_again(session: Session, people: tuple[int, int]) -> None:
    actor = user_actor(people[0])
    save_preferences(session, actor=actor, locale="en", time_zone="UTC")
    assert save_preferences(session, actor=actor, locale=None, time_zone=None)
    assert kept(session, people[0]) == (None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "../../etc/passwd"),
        ("time_zone", ""),
        ("locale", "a language"),
        ("locale", ""),
        ("locale", "en\n"),
    ],
)
def test_what_is_no_zone_and_no_language_is_refused(
    session: Session, people: tuple[int, int], field: str, value: str
) -> None:
    given = {"locale": "en", "time_zone": "UTC", field: value}
    with pytest.raises(InvalidInput) as refused:
        save_preferences(session, actor=user_actor(people[0]), **given)
    assert refused.value.field == field


def test_the_system_and_strangers_have_no_preferences(session: Session) -> None:
    with pytest.raises(NotAuthorised):
        save_preferences(session, actor=SYSTEM, locale=None, time_zone=None)
    with pytest.raises(NotFound):
        save_preferences(session, actor=user_actor(999_999), locale=None, time_zone=None)


def test_every_zone_on_offer_is_one_that_pages_show() -> None:
    assert {"UTC", "Asia/Tokyo", "Asia/Ho_Chi_Minh", "Europe/Paris"} <= set(time_zones())
    assert [zone for zone in time_zones() if str(formats.time_zone(zone)) != zone] == []
