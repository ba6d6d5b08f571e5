"""Commands for the people who sign in."""

from __future__ import annotations

from typing import Annotated

import typer

from domain import staff
from domain.actors import StaffRole
from domain.errors import Conflict, NotFound
from domain.staff import find_person
from portal.cli.shared import ACTOR, CommandError, commands, connected_database, say
from portal.runtime import database


@commands.command("create-user")
def create_user(
    email: Annotated[str, typer.Option(prompt="Email")],
    name: Annotated[str, typer.Option(prompt="Name")],
    role: Annotated[
        StaffRole | None, typer.Option(help="Staff role. Default: no staff role.")
    ] = None,
) -> None:
    """Create a user with a confirmed address, such as the first administrator."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with connected_database():
        try:
            database.transaction(
                staff.create_person,
                email=email,
                display_name=name,
                password=password,
                role=role,
                actor=ACTOR,
            )
        except Conflict:
            raise CommandError(f"A user with the address {email} already exists.") from None
    say(f"Created {email}" + (f", {role}." if role else "."))


@commands.command("reset-second-factor")
def reset_second_factor(
    email: Annotated[str, typer.Argument(help="Email address of the user.")],
    reason: Annotated[str, typer.Option(prompt="Reason")],
) -> None:
    """Remove a user's second factors, such as those of the only administrator.

    They are signed out and told by mail. Finance and administrators set a new one up when they
    sign in next.
    """
    with connected_database():
        try:
            person = database.read_snapshot(find_person, email=email, actor=ACTOR)
        except NotFound:
            raise CommandError(f"No user has the address {email}.") from None
        database.transaction(
            staff.reset_second_factors, user_id=person.user_id, reason=reason, actor=ACTOR
        )
    say(f"Second factors of {email} removed. The password alone signs in, or sets up a new one.")
