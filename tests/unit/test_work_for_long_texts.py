"""What is done with a text that came in grows no faster than the text: a long one halts nobody."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
import unicodedata
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import domain
import portal
from domain import fraud_signals, identity, validation
from domain.billing_profiles import BillingProfile, ProfileKind
from domain.billing_profiles.tax_codes import checked_tax_code
from domain.billing_profiles.validation import profile_faults
from domain.catalogue.file import parse_catalogue
from domain.errors import AmountOutOfRange, InvalidConfiguration, InvalidInput
from domain.money import Money
from domain.payments.bank_transfers import checked_reference
from domain.security import passwords
from portal.routes.middleware import Observed
from portal.runtime import logs
from tests.support.loops import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope, Send

ROOT = Path(__file__).resolve().parents[2]
ACCENTS = "\u0301\u0316"
LONG = "a" + ACCENTS * 50_000
Form = Literal["NFC", "NFKC", "NFKD"]
normal_form = unicodedata.normalize  # noqa: TID251 - what the other is compared with


# ── Normal forms ──────────────────────────────────────────────────────────────────────────────
def test_no_character_is_composed_of_more_than_four() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    assert max(len(normal_form("NFD", char)) for char in every) == validation._MAX_COMPOSED


@given(st.text(max_size=30), st.sampled_from(["NFC", "NFKC", "NFKD"]), st.integers(1, 30))
def test_normal_form_of_a_text_that_is_not_too_long_is_unicode_s(
    text: str, form: Form, longest: int
) -> None:
    whole = normal_form(form, text)
    found = validation.normalised(text, form, longest=longest)
    assert found == whole or (len(found) > longest and len(whole) > longest)


@given(st.text(min_size=1, max_size=6), st.sampled_from(["NFC", "NFKC", "NFKD"]))
def test_text_that_is_too_long_stays_too_long(text: str, form: Form) -> None:
    decomposed = normal_form("NFD", text * 40)
    if len(normal_form(form, decomposed)) > 10:
        assert len(validation.normalised(decomposed, form, longest=10)) > 10


def profile_check(text: str) -> list[InvalidInput]:
    profile = BillingProfile(
        ProfileKind.PERSONAL, name=text, email=text, address=text, country="VN", city=text
    )
    return list(profile_faults(profile))


@pytest.mark.parametrize(
    "take",
    [
        lambda: passwords.check_password(LONG, email="lan@example.com"),
        lambda: passwords.verify_password(LONG, None),
        lambda: Money.parse(LONG, "USD", locale="en"),
        lambda: Money.parse(" " * 10_000 + LONG, "VND", locale="vi"),
        lambda: checked_tax_code(LONG, country="VN", is_company=True),
        lambda: checked_reference(LONG),
        lambda: checked_reference("\u200b" * 10_000 + LONG),
        lambda: identity.normalise_email(f"{LONG}@example.com"),
        lambda: profile_check(LONG),
        lambda: fraud_signals._plain_letters(LONG),
    ],
    ids=range(10),
)
def test_normal_form_is_made_of_a_bounded_text(
    take: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(form: Form, text: str) -> str:
        sizes.append(len(text))
        return normal_form(form, text)

    monkeypatch.setattr(validation, "unicodedata", SimpleNamespace(normalize=counted))
    for name in ("email_validator.syntax", "email_validator.validate_email"):
        monkeypatch.setattr(
            importlib.import_module(name),
            "unicodedata",
            SimpleNamespace(normalize=counted, category=unicodedata.category),
        )
    try:
        take()
    except InvalidInput as refusal:
        sizes.append(len(str(refusal)))
    assert sizes
    assert max(sizes) <= 2_001


def test_password_of_as_many_letters_as_fit_is_the_same_however_it_is_composed() -> None:
    # The letter is three characters where a keyboard composes nothing.
    password = "ệ" * (passwords.MAX_LENGTH - 20) + "violet-kettle-9-marc"
    kept = passwords.hash_password(password)
    assert passwords.verify_password(normal_form("NFD", password), kept)
    assert not passwords.verify_password(normal_form("NFD", password + "h"), kept)


# ── Patterns ──────────────────────────────────────────────────────────────────────────────────
SEARCHES = {"search", "sub", "subn", "findall", "finditer", "split"}
# One repetition within another, where a sign that the inner one has not ends each round of the
# outer one: there is one way to match at most.
SEPARATED = {"domain.gateways.paypal.certificates.ISSUER_URL"}
UNBOUNDED = re._constants.MAXREPEAT  # type: ignore[attr-defined]
REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
# Pages are run by Streamlit, and have no patterns of their own.
NOT_IMPORTED = ("portal.pages", "portal.main", "portal.__main__")


def modules() -> Iterator[Any]:
    for package in (domain, portal):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(NOT_IMPORTED):
                yield importlib.import_module(found.name)


def patterns() -> dict[str, re.Pattern[Any]]:
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }


def is_searched_for(path: str) -> bool:
    module, _dot, name = path.rpartition(".")
    file = Path(str(importlib.import_module(module).__file__))
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
        and node.attr in SEARCHES
        for node in ast.walk(ast.parse(file.read_text()))
    )


def parsed(pattern: re.Pattern[Any]) -> list[Any]:
    return list(re._parser.parse(pattern.pattern, pattern.flags))  # type: ignore[attr-defined]


def unbounded_parts(items: list[Any], *, is_last: bool = True) -> Iterator[tuple[Any, bool]]:
    """Yield what may be repeated without end, and whether anything has to match after it."""
    for place, (operation, argument) in enumerate(items):
        ends = is_last and place == len(items) - 1
        if str(operation) in REPEATS:
            _lowest, highest, inner = argument
            if highest == UNBOUNDED:
                yield list(inner), ends
            yield from unbounded_parts(list(inner), is_last=ends)
        elif str(operation) == "SUBPATTERN":
            yield from unbounded_parts(list(argument[-1]), is_last=ends)
        elif str(operation) == "BRANCH":
            for branch in argument[1]:
                yield from unbounded_parts(list(branch), is_last=ends)
        elif str(operation) in {"ASSERT", "ASSERT_NOT"}:
            yield from unbounded_parts(list(argument[1]), is_last=True)


def faults_of(pattern: re.Pattern[Any], *, is_searched: bool, is_separated: bool) -> list[str]:
    items = parsed(pattern)
    is_anchored = str(items[0][0]) == "AT" and not pattern.flags & re.MULTILINE
    found = list(unbounded_parts(items))
    faults = []
    if any(list(unbounded_parts(inner)) for inner, _ends in found) and not is_separated:
        faults.append("a repetition without end within another")
    if is_searched and not is_anchored and not all(ends for _inner, ends in found):
        faults.append("what is repeated without end is looked for anew at each place")
    return faults


def test_no_pattern_takes_longer_than_its_text_is_long() -> None:
    found = patterns()
    assert {"portal.runtime.logs._MAIL_ADDRESS", "domain.validation.CONTROL"} <= set(found)
    assert set(found) >= SEPARATED
    faults = {
        path: faults_of(pattern, is_searched=is_searched_for(path), is_separated=path in SEPARATED)
        for path, pattern in found.items()
    }
    assert {path: each for path, each in faults.items() if each} == {}


@pytest.mark.parametrize(
    ("written", "is_searched", "is_fine"),
    [
        (r"(a+)+b", False, False),
        (r"(?:a*|b)*", False, False),
        (r"[^@]+@", True, False),
        (r"[^@]+@", False, True),
        (r"[^@]{1,64}@", True, True),
        (r"a.*b", True, False),
        (r"\d+", True, True),
        (r"^\d*x", True, True),
        (r"x(?=a+b)", True, False),
    ],
)
def test_pattern_that_may_take_long_is_seen(
    written: str, *, is_searched: bool, is_fine: bool
) -> None:
    found = faults_of(re.compile(written), is_searched=is_searched, is_separated=False)
    assert (not found) == is_fine


def calls_with_a_pattern() -> Iterator[tuple[str, ast.expr]]:
    """Yield each pattern that stands in a call of `re`, and its file."""
    for file in sorted([*ROOT.glob("domain/**/*.py"), *ROOT.glob("portal/**/*.py")]):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) == "re"
                and node.func.attr in SEARCHES | {"match", "fullmatch"}
            ):
                yield str(file.relative_to(ROOT)), node.args[0]


def test_no_pattern_within_a_call_takes_longer_than_its_text_is_long() -> None:
    own = {"domain/ledger/verify.py", "domain/gateways/vnpay/updates.py", "portal/ui/formats.py"}
    seen = set()
    for path, written in calls_with_a_pattern():
        seen.add(path)
        if path in own:
            continue  # what is looked through is our own, or a note of ours that came back
        assert isinstance(written, ast.Constant), ast.unparse(written)
        pattern = re.compile(str(written.value))
        assert faults_of(pattern, is_searched=True, is_separated=False) == [], path
    assert "domain/money.py" in seen


# ── What came with a request ──────────────────────────────────────────────────────────────────
def test_mail_address_is_hidden_within_a_long_line() -> None:
    longest = "l" * 64 + "@" + "d" * 60 + ".example.com"
    line = f"{'x' * 70_000} {longest} {'y@' * 30_000} lan@example.com"
    hidden = logs._without_addresses(line)
    assert hidden.count("(mail address)") == 2
    assert "example.com" not in hidden


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_cookie_reaches_nobody_with_a_backslash(kind: str) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    async def nothing(*_message: object) -> Any:
        return None

    scope = {
        "type": kind,
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [
            (b"cookie", b'a="' + b"\\a" * 30_000 + b'"; session=x'),
            (b"accept", b"\\"),
        ],
    }
    run_async(Observed(app, own_routes=())(scope, nothing, nothing))
    (heard,) = seen
    assert heard["headers"] == [
        (b"cookie", b'a="' + b"a" * 30_000 + b'"; session=x'),
        (b"accept", b"\\"),
    ]


@pytest.mark.parametrize(
    "content", ["x = " + "9" * 5_000, "x = 1e" + "9" * 40, "x = " + "[" * 5_000, "x = \x00"]
)
def test_catalogue_that_nobody_can_read_is_refused(content: str) -> None:
    with pytest.raises(InvalidConfiguration):
        parse_catalogue(content)


@pytest.mark.parametrize("currency", ["USD", "VND", "JPY"])
@pytest.mark.parametrize(
    "typed",
    [
        *("1e999999999", "-1e999999999", "1e-999999999", "9" * 5_000, "NaN", "Infinity"),
        *("0." + "0" * 5_000 + "1", "1," * 2_000, " " * 5_000 + "x", "-" * 5_000),
    ],
)
def test_amount_that_no_account_holds_is_refused(typed: str, currency: str) -> None:
    with pytest.raises(InvalidInput):
        Money.parse(typed, currency, locale="en")


@pytest.mark.parametrize("number", ["1e999999999", "-1e999999999", "1e-999999999", "NaN", "9e5000"])
def test_decimal_that_no_account_holds_is_refused(number: str) -> None:
    with pytest.raises((InvalidInput, AmountOutOfRange)):
        Money.from_decimal(Decimal(number), "USD")
