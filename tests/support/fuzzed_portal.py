"""A portal with a history, people of every role, and what their forms would send.

It is the application's own routes behind its own middleware, in this process, with Streamlit's
pages replaced by one word.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text, update
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from db.models import BankTransfer, Base, Payment, User, UserSession, VoucherBatch
from domain import identity, outbox, staff
from domain.accounts import invitations
from domain.accounts.sign_up import SignUp, sign_up
from domain.actors import MemberRole, StaffRole, user_actor
from domain.errors import BillingError
from domain.history.export_jobs import ExportOptions
from domain.history.rows import HistoryFilter
from domain.identity import Client
from portal import asgi
from portal.runtime import database
from portal.runtime.sessions import find_signed_in_user
from portal.runtime.settings import settings
from tests.factories import SYSTEM, next_key
from tests.support.odd_requests import NOBODY, Genuine, Requests

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.support.rich_history import RichHistory

PASSWORD = "violet-kettle-9-march"
PEOPLE: dict[str, tuple[StaffRole | None, MemberRole | None]] = {
    "owner": (None, MemberRole.OWNER),
    "reader": (None, MemberRole.READER),
    "support": (StaffRole.SUPPORT, None),
    "finance": (StaffRole.FINANCE, None),
    "admin": (StaffRole.ADMIN, None),
    "ended": (None, MemberRole.OWNER),
}
"""Who sends requests; the session of the last was ended, and two more have none."""

GARBAGE = "garbage"
FORGETFUL = "reader"
"""Whose password the mailed links reset: that ends their sessions, whoever sends the form."""

_CLIENT = Client("203.0.113.7", "a browser")
_WATCHED = (
    *("users", "accounts", "account_members", "account_invitations", "entries", "payments"),
    *("staff_invitations", "staff_role_requests"),
    *("refunds", "bank_transfers", "campaigns", "voucher_codes", "exchange_rates", "staff_acts"),
    *("approval_requests", "account_notes", "account_freezes", "uploads", "export_jobs"),
)
_COUNTS = select(
    *(
        select(func.count()).select_from(Base.metadata.tables[name]).scalar_subquery()
        for name in _WATCHED
    )
)


@dataclass
class FuzzedPortal:
    """The application, who is signed in, and what is genuine."""

    history: RichHistory
    routes: list[Route]
    app: Starlette
    users: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    genuine: Genuine = field(default_factory=Genuine)

    def requests(self, seed: str) -> Requests:
        """Return the requests of a seed."""
        return Requests(self.routes, self.genuine, self.tokens, random.Random(seed))

    def sign_in_again(self, *people: str) -> None:
        """Give whoever of these has no session any more another one."""
        for who in set(people) & set(self.users) - {"ended"}:
            if find_signed_in_user(self.tokens.get(who)) is None:
                self.tokens[who] = database.transaction(_opened, self.users[who])
        self.genuine.fields["session"] = [
            identity.session_id_of(self.tokens[who]) for who in ("owner", "finance")
        ]

    def mail_links(self) -> None:
        """Have links mailed that open a form each: of a sign-up, a reset and invitations."""
        number = next_key("link")
        form = SignUp(f"{number}@example.com", "Lan", PASSWORD, "Lan's lab", "VN", "VND")
        client = Client(f"2001:db8:{number.rpartition('-')[2]}::1", "a browser")
        sign_up(database.sessions(), form=form, client=client, policy=settings().policy)
        database.transaction(_ask_reset, client)
        database.transaction(self._invite, number)
        database.transaction(self._invite_staff, number)
        mails = database.read_snapshot(outbox.waiting_mail, actor=SYSTEM, limit=12)
        found = [str(mail.parameters["token"]) for mail in mails if "token" in mail.parameters]
        assert found
        self.genuine.fields["token"] = found

    def _invite(self, session: Session, number: str) -> None:
        account = self.history.accounts["dong"]
        try:
            invitations.invite_member(
                session,
                account_id=account,
                email=f"invited-{number}@example.com",
                role=MemberRole.READER,
                actor=user_actor(self.users["owner"], memberships={account: MemberRole.OWNER}),
                idempotency_key=number,
                policy=settings().policy,
            )
        except BillingError:
            # Invitations of an account are limited, and the ones before may have been taken.
            session.rollback()

    def _invite_staff(self, session: Session, number: str) -> None:
        try:
            staff.invite_staff(
                session,
                email=f"colleague-{number}@example.com",
                role=StaffRole.SUPPORT,
                reason="hired",
                actor=user_actor(self.users["admin"], staff_role=StaffRole.ADMIN),
                policy=settings().policy,
            )
        except BillingError:
            session.rollback()  # limited, as those of an account are

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has that no stranger adds to."""
        return database.read_snapshot(_count)


def open_portal(history: RichHistory) -> FuzzedPortal:
    """Return the portal on the history's database, which `database` is connected to."""
    routes = [each for each in asgi.own_routes() if isinstance(each, Route)]
    shell = Mount("/", app=PlainTextResponse("the page shell"))
    app = Starlette(routes=[*routes, shell], middleware=asgi.middleware(list(routes)))
    portal = FuzzedPortal(history, routes, app)
    database.transaction(lambda session: portal.users.update(_people(session, history)))
    portal.tokens |= {NOBODY: "", GARBAGE: "no-session-of-anybody-has-this-long-a-token"}
    portal.tokens["ended"] = database.transaction(_opened, portal.users["ended"])
    database.transaction(_end_sessions, portal.users["ended"])
    portal.genuine.fields |= _fields(history)
    portal.genuine.places |= database.read_snapshot(_places, history)
    portal.genuine.fields |= database.read_snapshot(_numbers)
    portal.sign_in_again(*PEOPLE)
    portal.mail_links()
    return portal


def _people(session: Session, history: RichHistory) -> dict[str, int]:
    made = {}
    for who, (staff_role, role) in PEOPLE.items():
        made[who] = identity.create_user(
            session,
            email=f"{who}@example.com",
            display_name="Lan",
            password=PASSWORD,
            staff_role=staff_role,
            actor=SYSTEM,
        )
        session.execute(
            update(User).where(User.id == made[who]).values(email_verified_at=text("now()"))
        )
        for name in ("dong", "refund") if role else ():
            session.execute(
                text("INSERT INTO account_members (account_id, user_id, role) VALUES (:a, :u, :r)"),
                {"a": history.accounts[name], "u": made[who], "r": role},
            )
    return made


def _opened(session: Session, user_id: int) -> str:
    opened = identity.create_session(
        session, user_id=user_id, client=_CLIENT, policy=settings().policy
    )
    return opened.token


def _end_sessions(session: Session, user_id: int) -> None:
    session.execute(
        update(UserSession)
        .where(UserSession.user_id == user_id)
        .values(revoked_at=UserSession.created_at)
    )


def _ask_reset(session: Session, client: Client) -> None:
    identity.request_password_reset(
        session, email=f"{FORGETFUL}@example.com", client=client, policy=settings().policy
    )


def _count(session: Session) -> dict[str, int]:
    return dict(zip(_WATCHED, session.execute(_COUNTS).one(), strict=True))


def _fields(history: RichHistory) -> dict[str, list[str]]:
    account = history.accounts["dong"]
    options = ExportOptions(account, HistoryFilter(), "", "Asia/Tokyo", "en").to_json()
    # A genuine wish has a process write a file: few of them are.
    wishes = [json.dumps(options), *(json.dumps(options | {"account_id": -1}) for _ in range(29))]
    return {
        "options": wishes,
        "format": ["csv", "xlsx"],
        "page": ["tab=history"],
        "email": ["owner@example.com", "new@example.com"],
        "password": [PASSWORD, "amber-ladder-4-june"],
        "current_password": [PASSWORD],
        "new_password": ["amber-ladder-4-june"],
        "display_name": ["Minh"],
        "account_name": ["Minh's lab"],
        "country": ["VN", "JP", "FR"],
        "currency": ["VND", "JPY", "USD"],
        "next": ["/", "/usage?from=2026-01-01"],
        "notice": ["signed_out", "session_ended"],
        "for": ["reset", "sign-up"],
        "first": ["2026-03-01"],
        "last": ["2026-03-31"],
        "grain": ["day", "month"],
        "site": ["", "vn"],
        "service": [""],
        "who": ["people", "all", "owner@example.com"],
        "what": [""],
        "of": ["", str(account)],
        "since": ["", "2026-03-01T00:00:00+00:00"],
        "until": ["", "2026-12-31T00:00:00+00:00"],
        "id": ["1", "2"],
    }


def _numbers(session: Session) -> dict[str, list[str]]:
    return {
        "batch": [str(each) for each in session.scalars(select(VoucherBatch.id))],
        "transfer": [str(each) for each in session.scalars(select(BankTransfer.id))],
    }


def _places(session: Session, history: RichHistory) -> dict[str, list[str]]:
    references = session.scalars(
        select(Payment.reference).where(Payment.account_id == history.accounts["dong"]).limit(3)
    ).all()
    refunded = session.scalars(
        select(Payment.reference).where(Payment.account_id == history.accounts["refund"]).limit(3)
    ).all()
    return {
        "account_id": [str(history.accounts[name]) for name in ("dong", "yen", "refund")],
        "month": ["2026-03", "2026-02"],
        "reference": [*references, *refunded],
        "place": ["1", "2"],
        "gateway": ["vnpay", "stripe", "paypal"],
        "purpose": ["evidence", "codes"],
        "key": ["0b0f7f0e-5f0a-4bb6-9c0e-1d6f3a1f8d11", "0b0f7f0e-5f0a-4bb6-9c0e-1d6f3a1f8d12"],
    }
