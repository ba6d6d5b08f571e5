"""Addresses of this portal: where sign-in, payments and files are."""

from __future__ import annotations

from urllib.parse import quote, urlencode, urlsplit

_MAX_PATH_LENGTH = 2000


def local_path(given: str) -> str:
    """Return the path if it leads to a page of this portal, and "/" if it may lead elsewhere."""
    # Browsers read \\ as /, and drop tabs and line ends first.
    if not given.startswith("/") or given.startswith("//") or len(given) > _MAX_PATH_LENGTH:
        return "/"
    if "\\" in given or any(character <= " " or character == "\x7f" for character in given):
        return "/"
    try:
        parts = urlsplit(given)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else given


def sign_in_path(next_path: str = "/") -> str:
    """Return the address of the sign-in with a way back."""
    target = local_path(next_path)
    return "/sign-in" if target == "/" else f"/sign-in?next={quote(target, safe='/')}"


def payment_path(reference: str, *, is_cancelled: bool = False) -> str:
    """Return the address of a payment's result, for a person who may see it."""
    query = {"ref": reference} | ({"cancelled": "1"} if is_cancelled else {})
    return f"/payment?{urlencode(query)}"
