"""Finding an account among a million by a part of its name, beside the look-up by its number."""

from __future__ import annotations

import random
import time
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import text

from benchmarks.charging import analyse
from domain.actors import StaffRole, user_actor
from domain.support.account_search import find_accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from benchmarks.yardstick import Pgbench

T = TypeVar("T")

ACCOUNTS = 1_000_000
REPEATS = 31
SUPPORT = user_actor(1, staff_role=StaffRole.SUPPORT)
_SYLLABLE = """
(string_to_array('b c ch d g gi h k l m n ng ph qu r s sh t th tr v w x y z', ' '))[1 + n{x} % 25]
|| (string_to_array('a e i o u y ai ao ia ua', ' '))[1 + n{x} / 25 % 10]
|| (string_to_array('- c m n ng nh p r t l', ' '))[1 + n{x} / 250 % 10]
"""
_WORD = " || ".join(_SYLLABLE.format(x=f" * {factor} / 1000") for factor in (7_919, 104_729))
_OTHER_WORD = " || ".join(_SYLLABLE.format(x=f" * {factor} / 1000") for factor in (611_953, 15_487))

_FILL = text(f"""
INSERT INTO accounts (site_code, name, currency)
SELECT 'global', initcap(replace(({_WORD}) || ' ' || ({_OTHER_WORD}), '-', '')), 'USD'
FROM generate_series(CAST(1 AS bigint), :count) AS n
""")  # noqa: S608 - every part of it is defined above


def run(sessions: sessionmaker[Session], _pgbench: Pgbench) -> None:
    """Print each kind of search as a ratio to the look-up by number."""
    with sessions.begin() as session:
        session.execute(_FILL, {"count": ACCOUNTS})
    analyse(sessions)
    chance = random.Random(1)
    with sessions() as session:
        ids = session.scalars(text("SELECT id FROM accounts ORDER BY id")).all()
        names: dict[int, str] = dict(
            session.execute(text("SELECT id, name FROM accounts")).tuples().all()
        )
    chosen = [chance.choice(ids) for _ in range(REPEATS)]
    wholes = [names[one] for one in chosen]
    kinds = {
        "number": [str(one) for one in chosen],
        "whole name": wholes,
        "middle of a name": [name[2:-2] for name in wholes],
        "three letters of many names": [name[1:4] for name in wholes],
        "two letters": [name[:2] for name in wholes],
        "what nobody is called": [f"{name}zz" for name in wholes],
        "payment": [f"PAY{one}ABCDEFGH" for one in chosen],
        "voucher code": [f"ABC{one % 10_000_000:07}" for one in chosen],
    }
    by_number = _milliseconds(sessions, chosen, _find_account)
    print(f"search among {ACCOUNTS:,} accounts: a bare look-up by number {by_number:.2f} ms")
    for kind, words in kinds.items():
        taken = _milliseconds(sessions, words, _search)
        print(
            f"search, by {kind}: {taken:.2f} ms, {taken / by_number:.1f} x by number"
            " (goals 50 ms and 20)"
        )


def _find_account(session: Session, account_id: int) -> None:
    session.execute(
        text("SELECT id, name, currency, site_code FROM accounts WHERE id = :id"),
        {"id": account_id},
    ).one()


def _search(session: Session, search_text: str) -> None:
    find_accounts(session, actor=SUPPORT, search_text=search_text)


def _milliseconds(
    sessions: sessionmaker[Session], filters: Sequence[T], ask: Callable[[Session, T], None]
) -> float:
    """Return the median of asking for each once, in milliseconds."""
    taken = []
    for each in filters:
        with sessions() as session:
            started = time.perf_counter()
            ask(session, each)
            taken.append(time.perf_counter() - started)
    return median(taken) * 1000
