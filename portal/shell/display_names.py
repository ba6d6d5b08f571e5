"""Display names of people, for facts that hold only an identifier such as `user:12`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domain.identity.queries import names_of
from portal.runtime import database
from portal.ui.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from portal.shell.page_context import PageContext


def naming(
    context: PageContext, actors: Iterable[str | None], *, in_sentence: bool = False
) -> Callable[[str | None], str]:
    """Return a function that names each of these people, for staff; one query finds them all.

    `in_sentence`: the name stands within one, where its reader is "you".
    """
    found = database.read_snapshot(names_of, actor=context.visitor.actor, actors=actors)
    me = f"user:{context.visitor.actor.user_id}"

    def name(actor: str | None) -> str:
        if actor is None:
            return ""
        if actor == me:
            return _("you") if in_sentence else _("You")
        return found.get(actor) or actor.replace("system:", _("System: "))

    return name
