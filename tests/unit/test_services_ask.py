"""Every service that the portal reaches asks the table of permissions, itself or by what it calls.

Those that do not are named below, each with what protects it instead.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ASKING = ("domain.permissions", "require")
SESSIONS = {"session", "sessions"}
PROTECTED_OTHERWISE = {
    # Nobody is signed in yet: a password, a mailed link or a cookie is the right, and is counted.
    "domain.identity.authentication.authenticate": "a password",
    "domain.identity.password_reset.change_password": "the present password",
    "domain.identity.email_links.email_of_link": "a mailed link",
    "domain.identity.password_reset.request_password_reset": "answers everybody the same",
    "domain.identity.password_reset.reset_password": "a mailed link",
    "domain.identity.sessions.session_actor": "the cookie's token",
    "domain.identity.sessions.touch_session": "the session's own",
    "domain.identity.authentication.authenticate_with_passkey": "a passkey",
    "domain.identity.authentication.verify_email": "a mailed link and a password",
    "domain.identity.pending.find_pending": "the token of a pending sign-in",
    "domain.identity.pending.finish_set_up": "the token of a pending sign-in, and a code",
    "domain.identity.pending.finish_sign_in": "the token of a pending sign-in, and a factor",
    "domain.identity.pending.pending_offer": "the token of a pending sign-in",
    "domain.identity.pending.pending_passkey_options": "the token of a pending sign-in",
    "domain.accounts.invitations.accept_invitation": "a mailed link",
    "domain.accounts.invitations.find_offer": "a mailed link",
    "domain.staff.invitations.find_role_offer": "a mailed link",
    # One's own: the query is of the actor's id and of no other.
    "domain.identity.second_factor.add_own_passkey": "one's own, and the password",
    "domain.identity.second_factor.begin_authenticator": "one's own, and the password",
    "domain.identity.factor_confirmation.confirm_factor": "one's own, and a factor",
    "domain.identity.factor_confirmation.confirmation_passkey_options": "one's own",
    "domain.identity.second_factor.confirm_own_authenticator": "one's own, and a code",
    "domain.identity.second_factor.list_second_factors": "one's own",
    "domain.identity.second_factor.own_authenticator_offer": "one's own",
    "domain.identity.second_factor.own_passkey_options": "one's own",
    "domain.identity.second_factor.remove_own_authenticator": "one's own, and the password",
    "domain.identity.second_factor.remove_own_passkey": "one's own, and the password",
    "domain.identity.second_factor.replace_recovery_codes": "one's own, and the password",
    "domain.identity.sessions.choose_account": "one's own sessions and accounts",
    "domain.identity.sessions.list_sessions": "one's own sessions",
    "domain.identity.sessions.renew_own_session": "one's own session",
    "domain.identity.sessions.revoke_all_sessions": "one's own sessions",
    "domain.identity.sessions.revoke_session": "one's own sessions",
    "domain.accounts.members.leave_account": "one's own place",
    "domain.identity.preferences.save_preferences": "one's own preferences",
    "domain.accounts.queries.own_accounts": "one's own accounts",
    "domain.rights.with_current_rights": "one's own rights",
    "domain.uploads.drop_upload": "one's own files",
    # Anybody may know it, or no page passes it on.
    "domain.rights.waits_for_role": "pages ask it of the visitor, services of whom they add",
    "domain.audit.log.record": "adds to the log what the caller has seen done",
    "domain.clock.knows_zone": "names of time zones",
    "domain.clock.now": "the time",
    "domain.identity.sites.list_sites": "the sites to sign up at",
    "domain.identity.sessions.live_sessions": "which pages to close",
    "domain.jobs.last_successes": "ages, for the metrics",
    "domain.outbox.deliver_due": "the job that sends mail: it is told what to send by nobody",
    "domain.payments.checkout.check_amount": "limits that everybody may know",
    "domain.payments.records.reference_of": "a gateway's name of a payment, to look it up by",
    "domain.accounts.queries.service_names": "the catalogue",
    "domain.accounts.queries.site_zone": "a time zone",
    "domain.catalogue.loading.current_catalogue": "the catalogue",
    "domain.key_rotation.key_state": "numbers, for the start",
    "domain.key_rotation.open_digest_key": "the start: whoever calls it has the secret key",
    "domain.payments.top_up_limits.limits_of": "limits that everybody may know",
    "domain.vouchers.codes.count_codes": "a number",
    "domain.vouchers.redeem.rate_limited": "counts tries around a service that asks",
}

Key = tuple[str, str]


@cache
def modules() -> dict[str, ast.Module]:
    paths = [*(ROOT / "domain").rglob("*.py"), *(ROOT / "portal").rglob("*.py")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {
        name.removesuffix(".__init__"): ast.parse(path.read_text("utf-8"))
        for path, name in names.items()
    }


@cache
def functions() -> dict[Key, ast.FunctionDef]:
    return {
        (module, each.name): each
        for module, tree in modules().items()
        for each in tree.body
        if isinstance(each, ast.FunctionDef)
    }


@cache
def imported(module: str) -> dict[str, Key]:
    return {
        alias.asname or alias.name: (each.module, alias.name)
        for each in ast.walk(modules()[module])
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("domain")
        for alias in each.names
        if each.module is not None
    }


def found(module: str, name: str) -> Key | None:
    """Return the function of a name, also where a package hands it on."""
    if (module, name) in functions():
        return module, name
    if module in modules() and name in imported(module):
        return found(*imported(module)[name])
    return None


def mentioned(module: str, tree: ast.AST) -> Iterator[Key]:
    """Yield the functions of the domain that are called, or handed to something that calls them."""
    for each in ast.walk(tree):
        key = None
        if isinstance(each, ast.Name):
            key = found(module, each.id)
        elif isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            source = imported(module).get(each.value.id)
            key = found(f"{source[0]}.{source[1]}", each.attr) if source else None
        if key is not None and key[0].startswith("domain"):
            yield key


@cache
def called(key: Key) -> frozenset[Key]:
    calls = [each for each in ast.walk(functions()[key]) if isinstance(each, ast.Call)]
    return frozenset(other for each in calls for other in mentioned(key[0], each.func))


def asks(key: Key) -> bool:
    """Whether it asks the table, itself or by something that it calls."""
    seen: set[Key] = set()
    waiting = [key]
    while waiting:
        each = waiting.pop()
        if each == ASKING:
            return True
        if each not in seen:
            seen.add(each)
            waiting += called(each)
    return False


def reached() -> set[Key]:
    """Return the services that the portal names: functions that take a session of the database."""
    portal = [module for module in modules() if module.startswith("portal")]
    named = {key for module in portal for key in mentioned(module, modules()[module])}

    def parameters(key: Key) -> set[str]:
        arguments = functions()[key].args
        return {each.arg for each in (*arguments.args, *arguments.kwonlyargs)}

    return {key for key in named if SESSIONS & parameters(key)}


def test_every_service_asks_or_is_protected_otherwise() -> None:
    silent = {".".join(key) for key in reached() if not asks(key)}
    assert silent - PROTECTED_OTHERWISE.keys() == set(), "these ask nobody: require(...) is missing"
    assert PROTECTED_OTHERWISE.keys() - silent == set(), "these ask by now, or are gone"


def test_the_services_are_found_at_all() -> None:
    """So that the test above cannot pass for want of services to look at."""
    names = {".".join(key) for key in reached()}
    assert len(names) > len(PROTECTED_OTHERWISE)
    some = {"domain.vouchers.campaigns.decide_campaign", "domain.staff.roles.change_staff_role"}
    assert some <= names
