"""The environment variables, read and checked; problems are collected as sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from db.engine import ADDRESS_FORM, psycopg2_url
from domain.actors import StaffRole
from domain.identity import AuthPolicy
from portal.runtime.env_files import FILE_SUFFIX, SECRETS, read_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from urllib.parse import SplitResult


SECOND_FACTOR_ROLES = frozenset((StaffRole.FINANCE, StaffRole.ADMIN))
"""Who signs in with more than a password outside the demo."""
LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))
_DEMO_SECRET_KEY = "demo-secret-key-that-everybody-knows"  # noqa: S105 - refused outside the demo
_SHORTEST_SECRET_KEY = 32
# 32 random hexadecimal digits almost always have at least this many different ones.
_FEWEST_DIFFERENT_CHARACTERS = 8
HIGHEST_PORT = 65_535
_NO_PROXIES = "none"
# Also the characters of a header's value: no blanks, and nothing beyond ASCII.
KEY = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Smtp:
    """The mail server, and the security and credentials of its connection."""

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    security: str


class Reader:
    """Reads one variable at a time, and collects the problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        self._secret_names = set(SECRETS)
        self._secrets: dict[str, str | None] = {}

    def text(self, name: str) -> str | None:
        """Return a variable without spaces around it, or None where it is empty.

        A secret may be in a file instead; what is wrong with that is a problem, and the text None.
        """
        if name not in self._secret_names:
            return self._variable(name)
        if name not in self._secrets:
            self._secrets[name] = self._secret(name)
        return self._secrets[name]

    def is_given(self, name: str) -> bool:
        """Return whether a variable or, for a secret, its file is given, readable or not."""
        file = self._variable(name + FILE_SUFFIX) if name in self._secret_names else None
        return self._variable(name) is not None or file is not None

    def _variable(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def _secret(self, name: str) -> str | None:
        given, file = self._variable(name), self._variable(name + FILE_SUFFIX)
        if file is None:
            return given
        if given is not None:
            self.problems.append(f"{name} and {name}_FILE are both set: remove one of them.")
            return None
        content, problem = read_secret(Path(file))
        if problem:
            # Without the path: it may be the secret itself, entered by mistake.
            self.problems.append(f"{name}_FILE {problem}")
        return content

    def flag(self, name: str, *, default: bool) -> bool:
        """Return whether a variable is switched on."""
        given = (self.text(name) or ("1" if default else "0")).lower()
        if given not in {"0", "1", "true", "false", "yes", "no"}:
            self.problems.append(f"{name} is 1 or 0.")
        return given in {"1", "true", "yes"}

    def number(self, name: str, default: int, *, lowest: int = 1, highest: int) -> int:
        """Return a whole number within these limits."""
        given = self.text(name) or str(default)
        if given.isdecimal() and lowest <= int(given) <= highest:
            return int(given)
        self.problems.append(f"{name} is a whole number from {lowest} to {highest}.")
        return default

    def choice(self, name: str, words: tuple[str, ...], default: str) -> str:
        """Return one of the allowed words."""
        given = (self.text(name) or default).lower()
        if given in words:
            return given
        self.problems.append(f"{name} is {', '.join(words[:-1])} or {words[-1]}.")
        return default

    def folder(self, name: str) -> Path | None:
        """Return a folder that exists, or None where the variable is not set."""
        given = self.text(name)
        if given is None:
            return None
        path = Path(given).absolute()
        if not path.is_dir():
            self.problems.append(f"{name} is a folder that exists.")
        return path

    def metrics_port(self, port: int) -> int | None:
        """Return the port of metrics, or None where they are off."""
        if self.text("METRICS_PORT") is None:
            return None
        given = self.number("METRICS_PORT", 9464, highest=HIGHEST_PORT)
        if given == port:
            self.problems.append("METRICS_PORT is another port than PORT: no visitor reads it.")
        return given

    def database_url(self, name: str) -> str | None:
        """Return the address of a PostgreSQL server, or None for the embedded one."""
        given = self.text(name)
        if given is None:
            return None
        try:
            return psycopg2_url(given)
        except ValueError:
            self.problems.append(f"{name} looks like {ADDRESS_FORM}.")
            return given

    def base_url(self, port: int, *, demo: bool) -> str:
        """Return the address under which people reach the portal."""
        fallback = f"http://localhost:{port}"
        given = self.text("BASE_URL")
        if given is None:
            if not demo:
                self.problems.append(
                    "BASE_URL is needed outside the demo: where people reach the portal, such as"
                    " https://billing.example.com."
                )
            return fallback
        given = given.rstrip("/")
        parts = web_address(given)
        if parts is None or parts.path:
            self.problems.append("BASE_URL looks like https://billing.example.com, with no path.")
            return fallback
        if not demo and not is_private(parts):
            self.problems.append("BASE_URL starts with https:// outside the demo.")
        return parts.geturl()

    def secret_key(self, *, demo: bool) -> str:
        """Return the key of which all others are derived."""
        given = self.text("SECRET_KEY")
        if demo:
            return given or _DEMO_SECRET_KEY
        is_weak = (
            given is None
            or len(given) < _SHORTEST_SECRET_KEY
            or len(set(given)) < _FEWEST_DIFFERENT_CHARACTERS
            or given == _DEMO_SECRET_KEY
        )
        if is_weak and (given is not None or not self.is_given("SECRET_KEY")):
            self.problems.append(
                f"SECRET_KEY needs {_SHORTEST_SECRET_KEY} or more random characters outside the"
                f" demo, {_FEWEST_DIFFERENT_CHARACTERS} of them different."
                ' Make one: python -c "import secrets; print(secrets.token_urlsafe(48))"'
            )
        return given or ""

    def previous_secret_keys(self) -> tuple[str, ...]:
        """Return the older keys; of one that has a comma in it, what is between them too."""
        given = self.text("SECRET_KEY_PREVIOUS") or ""
        parts = tuple(part.strip() for part in given.split(",") if part.strip())
        return parts if len(parts) <= 1 else (*parts, given)

    def smtp(self) -> Smtp | None:
        """Return the mail server, or None for the mailbox of the demo."""
        host = self.text("SMTP_HOST")
        if host is None:
            return None
        security = (self.text("SMTP_SECURITY") or "starttls").lower()
        if security not in {"starttls", "tls", "none"}:
            self.problems.append("SMTP_SECURITY is starttls, tls or none.")
        return Smtp(
            host=host,
            port=self.number("SMTP_PORT", 587, highest=HIGHEST_PORT),
            user=self.text("SMTP_USER"),
            password=self.text("SMTP_PASSWORD"),
            security=security,
        )

    def policy(self, secret_key: str, *, demo: bool) -> AuthPolicy:
        """Return the policy of sign-ins: the lifetime of sessions and the limits of guesses."""
        minutes, hours = self._span("minutes"), self._span("hours")
        return AuthPolicy(
            key=secret_key.encode(),
            customer_idle=minutes("SESSION_IDLE_MINUTES", 480),
            customer_longest=hours("SESSION_MAX_HOURS", 168),
            staff_idle=minutes("SESSION_STAFF_IDLE_MINUTES", 60),
            staff_longest=hours("SESSION_STAFF_MAX_HOURS", 12),
            # The demo's people share a public password.
            second_factor_roles=frozenset() if demo else SECOND_FACTOR_ROLES,
        )

    def trusted_proxies(self, *, demo: bool) -> tuple[IPv4Network | IPv6Network, ...] | None:
        """Return whose X-Forwarded-For is believed; None leaves that to the server."""
        name = "TRUSTED_PROXIES"
        if self.text(name) is None:
            if not demo:
                self.problems.append(
                    f"{name} is needed outside the demo: the addresses or networks of the proxies"
                    f" in front of the portal, such as 127.0.0.1, or {_NO_PROXIES} if there are"
                    " none."
                )
            return None
        given = self.parts(name)
        if [part.lower() for part in given] == [_NO_PROXIES]:
            return ()
        networks = tuple(network for part in given if (network := _network(part)) is not None)
        if not given or len(networks) < len(given):
            self.problems.append(
                f"{name} has addresses or networks such as 10.0.0.5, 10.1.0.0/16 or 2001:db8::/64,"
                f" with commas between them, or the one word {_NO_PROXIES}."
            )
        if any(network.prefixlen == 0 for network in _joined(networks)):
            self.problems.append(
                f"{name} names the proxies alone: where everybody is in it, anybody chooses the"
                " address that they are taken for."
            )
        return networks

    def parts(self, name: str) -> tuple[str, ...]:
        """Return the parts between commas, without empty ones."""
        return tuple(part.strip() for part in (self.text(name) or "").split(",") if part.strip())

    def _span(self, unit: str) -> Callable[[str, int], timedelta]:
        def read(name: str, default: int) -> timedelta:
            return timedelta(**{unit: self.number(name, default, highest=100_000)})

        return read


def web_address(given: str) -> SplitResult | None:
    """Return the parts of an address with a host and at most a port and a path, or None."""
    try:
        parts = urlsplit(given)
        has_port = parts.port != 0
    except ValueError:
        return None
    host = parts.hostname or ""
    is_host = _HOST.fullmatch(host) is not None or is_ip_address(host)
    is_plain = parts.username is None and not any(each in given for each in "?#\\")
    fits = parts.scheme in {"http", "https"} and is_host and has_port and is_plain
    return parts if fits and KEY.fullmatch(given) else None


def is_private(parts: SplitResult) -> bool:
    """Return whether traffic to the address is private: by TLS, or on this computer."""
    return parts.scheme == "https" or parts.hostname in LOOPBACK_HOSTS


def is_ip_address(text: str) -> bool:
    """Return whether a text is an address of a network, and no name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _joined(
    networks: Iterable[IPv4Network | IPv6Network],
) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks with those that make up a wider one as that one."""
    four = collapse_addresses(each for each in networks if isinstance(each, IPv4Network))
    six = collapse_addresses(each for each in networks if isinstance(each, IPv6Network))
    return (*four, *six)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """Return a network, or None; an IPv4 one in an IPv6 one's clothes would never be met."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        return None
    return network
