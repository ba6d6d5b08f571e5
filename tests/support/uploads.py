"""Files that a page finds as if a browser had handed them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.actors import StaffRole, user_actor
from domain.uploads import keep_upload
from portal.runtime import database

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


def hand_in(app: AppTest, field: str, purpose: str, name: str, content: bytes) -> None:
    """Keep a file under the key that the page drew for the field; the person is number 1."""
    database.transaction(
        keep_upload,
        purpose=purpose,
        key=app.session_state[field],
        name=name,
        content=content,
        actor=user_actor(1, staff_role=StaffRole.FINANCE),
    )
