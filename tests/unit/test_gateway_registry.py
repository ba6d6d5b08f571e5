"""The gateways that the product knows; none of its other code names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from domain.gateways.registry import gateway_kinds, gateway_names, reviews_payments
from domain.payments import Method, methods_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"\b(vnpay|stripe|stripe_cards|paypal)\b")
WITH_NAMES = (
    "domain/gateways/",  # the adapters
    "portal/ui/labels/gateways.py",  # what customers read of each
    "portal/demo/",  # sample data
)


def test_built_in_gateways_are_found_in_the_order_of_their_ranks() -> None:
    assert gateway_names() == ("vnpay", "stripe", "stripe_cards", "paypal", "bank")
    assert [name for name in gateway_names() if reviews_payments(name)] == ["paypal"]


@pytest.mark.parametrize(
    ("country", "currency", "methods"),
    [
        ("VN", "VND", [("vnpay", "VND"), ("paypal", "USD")]),
        ("VN", "USD", [("vnpay", "VND"), ("paypal", "USD")]),
        ("JP", "JPY", [("stripe", "JPY"), ("paypal", "USD")]),
        ("DE", "EUR", [("stripe_cards", "EUR"), ("paypal", "EUR")]),
        ("SG", "USD", [("stripe_cards", "USD"), ("paypal", "USD")]),
        ("SG", "SGD", [("paypal", "SGD")]),
    ],
)
def test_each_country_has_its_gateways(
    country: str, currency: str, methods: list[tuple[str, str]]
) -> None:
    assert methods_of(country, currency) == tuple(Method(*each) for each in methods)


def names_in(source: str) -> Iterator[str]:
    """Yield the texts of a program, its documentation aside, that name a gateway."""
    tree = ast.parse(source)
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(node.value, str) and NAMED.search(node.value):
            yield node.value


@pytest.mark.parametrize("source", ["x = 'paypal'", "f'WHERE gateway = {x} OR stripe'"])
def test_name_in_code_is_found(source: str) -> None:
    assert list(names_in(source))


def test_no_other_code_names_a_gateway() -> None:
    files = [path for top in ("domain", "portal", "db") for path in (ROOT / top).rglob("*.py")]
    found = {
        f"{path.relative_to(ROOT)}: {text[:60]}"
        for path in files
        if not path.relative_to(ROOT).as_posix().startswith(WITH_NAMES)
        and "migrations" not in path.parts
        for text in names_in(path.read_text("utf-8"))
    }
    assert len(gateway_kinds()) == 4
    assert found == set()
