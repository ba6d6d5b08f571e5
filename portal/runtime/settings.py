"""What the environment decides, read once and checked as a whole.

| variable | meaning | default |
|---|---|---|
| `DATABASE_URL` | a PostgreSQL, version 15 or newer | its own, in `DATA_DIR` |
| `MIGRATION_DATABASE_URL` | the same database as the tables' owner | `DATABASE_URL` |
| `DATA_DIR` | where the portal's own PostgreSQL keeps its files | `.data` in the checkout |
| `PG_BIN` | the folder with the programs that its own PostgreSQL runs by | see docs/operations.md |
| `PORT` | where the portal listens | 8501 |
| `BASE_URL` | how people reach it, for links and cookies | `http://localhost:PORT` in the demo |
| `DEMO` | 1: sample accounts, known passwords, mail shown on a page; 0: none of it | see below |
| `SECRET_KEY` | 32 or more random characters, 8 of them different | only the demo has one |
| `SECRET_KEY_PREVIOUS` | older ones that still decrypt, as `a,b` | none |
| `SMTP_HOST`, `SMTP_PORT` | the mail server | none, 587 |
| `SMTP_USER`, `SMTP_PASSWORD` | how to sign in there | no sign-in |
| `SMTP_SECURITY` | `starttls`, `tls` or `none` | `starttls` |
| `MAIL_FROM` | the sender of mails | `billing@` the host of `BASE_URL` |
| `SESSION_IDLE_MINUTES`, `SESSION_MAX_HOURS` | how long customers stay signed in | 480, 168 |
| `SESSION_STAFF_IDLE_MINUTES`, `SESSION_STAFF_MAX_HOURS` | how long staff stay signed in | 60, 12 |
| `VNPAY_TMN_CODE`, `VNPAY_HASH_SECRET` | VNPay's terminal and its secret | test money, see below |
| `VNPAY_PAY_URL`, `VNPAY_API_URL` | VNPay's addresses | the live ones |
| `STRIPE_SECRET_KEY`, `STRIPE_WEBHOOK_SECRETS` | Stripe's keys; secrets as `a,b` | test money |
| `PAYPAL_CLIENT_ID`, `PAYPAL_CLIENT_SECRET`, `PAYPAL_WEBHOOK_ID` | PayPal's keys | test money |
| `PAYPAL_API_URL` | PayPal's address | the live one |
| `SANDBOX_PORT` | where the stand-ins of the gateways listen in the demo | `PORT` + 1 |
| `SERVER_IP` | this server's address, for VNPay | 127.0.0.1 |
| `SANDBOX_URL` | how browsers reach them | `http://localhost:SANDBOX_PORT` |
| `TRUSTED_PROXIES` | whose X-Forwarded-For counts, or `none` | this computer in the demo |
| `DATABASE_POOL_SIZE`, `DATABASE_POOL_OVERFLOW` | connections that stay open, and more | 10, 10 |
| `DATABASE_POOL_WAIT_SECONDS` | when a wait for a free connection is given up | 5 |
| `READ_TIMEOUT_SECONDS` | when a page's query is given up | 15 |
| `STATEMENT_TIMEOUT_SECONDS` | when a query of a write is given up | 60 |
| `JOB_TIMEOUT_SECONDS` | when a query of a job or an import is given up | 3600 |
| `METRICS_PORT`, `METRICS_HOST` | where Prometheus asks | no port, 127.0.0.1 |
| `LOG_FORMAT` | `text` or `json`, on standard error | `text` on a terminal, else `json` |
| `LOG_LEVEL` | `debug`, `info`, `warning` or `error` | `warning` as text, `info` as JSON |
| `JOBS` | 1: this process runs the clock's jobs too; 0: `python -m portal jobs` does | 1 |

Without `DATABASE_URL` and `DEMO` the portal starts as a demo on its own database: a plain
`streamlit run app.py` shows something at once. With `DATABASE_URL` it is not a demo unless
`DEMO=1` says so, and then it needs a secret key of its own, an address, which is https away from
this computer, and a word about proxies.

A gateway whose variables are set is spoken to with them. One whose are not has a stand-in with test
money in the demo, and is not offered outside of it. One whose variables are wrong is not offered
either: the log names what is wrong, and everything else works.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from domain.actors import StaffRole
from domain.gateways.paypal.client import PayPalSettings
from domain.gateways.stripe import StripeSettings
from domain.gateways.vnpay import VNPaySettings
from domain.identity import AuthPolicy
from domain.security.keyring import Keyring
from domain.security.payload_encryption import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from urllib.parse import SplitResult

ROOT = Path(__file__).resolve().parents[2]
SECOND_FACTOR_ROLES = frozenset((StaffRole.FINANCE, StaffRole.ADMIN))
"""Who signs in with more than a password outside the demo."""

LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))

_DEMO_SECRET_KEY = "demo-secret-key-that-everybody-knows"  # noqa: S105 - refused outside the demo
_SHORTEST_SECRET_KEY = 32
# Of 32 random digits or hexadecimal digits fewer are different about never.
_FEWEST_DIFFERENT_CHARACTERS = 8
_HIGHEST_PORT = 65_535
_DRIVER = "postgresql+psycopg2"
_NO_PROXIES = "none"
# Also what a header may hold: no blanks, and nothing beyond ASCII.
_KEY = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")


_VNPAY_PAY = "https://pay.vnpay.vn/vpcpay.html"
_VNPAY_API = "https://merchant.vnpay.vn/merchant_webapi/api/transaction"
_STRIPE_API = "https://api.stripe.com"
_PAYPAL_API = "https://api-m.paypal.com"
_BRAND = "AI Marketplace"
# The stand-ins know the same, so that a demo needs no account anywhere. Nothing else takes them.
_DEMO_SECRETS = {
    "VNPAY_TMN_CODE": "DEMOTMN1",
    "VNPAY_HASH_SECRET": "DEMO-VNPAY-HASH-SECRET-0123456789",  # nosec B105 - see above
    "STRIPE_SECRET_KEY": "sk_test_demo_0123456789",  # nosec B105 - see above
    "STRIPE_WEBHOOK_SECRETS": "whsec_demo_0123456789",
    "PAYPAL_CLIENT_ID": "demo-client-id",
    "PAYPAL_CLIENT_SECRET": "demo-client-secret-0123456789",  # nosec B105 - see above
    "PAYPAL_WEBHOOK_ID": "DEMO-WEBHOOK-ID-0123456789",
}


class SettingsError(Exception):
    """The environment does not say clearly how to start; `problems` has a sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Smtp:
    """The server that takes mail, and how to speak to it."""

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    security: str


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How each gateway is spoken to; None where it is not offered.

    `sandbox_url` is where browsers and the portal reach the stand-ins, and `sandbox_port` where
    they listen; both are None where no gateway needs them. `faults` has, for each gateway that is
    not offered because its variables are wrong, a sentence for each of them.
    """

    vnpay: VNPaySettings | None
    stripe: StripeSettings | None
    paypal: PayPalSettings | None
    sandbox_url: str | None
    sandbox_port: int | None
    faults: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides. Secrets stay out of its repr.

    `database_url` is None where the portal runs its own PostgreSQL in `data_directory`.
    `allows_any_host`: nobody said under which name people reach the portal, so a form may come
    from whatever name it was served under. `trusted_proxies` is None where nobody said whom.
    """

    database_url: str | None = field(repr=False)
    migration_database_url: str | None = field(repr=False)
    data_directory: Path
    port: int
    base_url: str
    allows_any_host: bool
    demo: bool
    secret_key: str = field(repr=False)
    previous_secret_keys: tuple[str, ...] = field(repr=False)
    smtp: Smtp | None
    mail_from: str
    policy: AuthPolicy
    gateways: GatewaySettings
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] | None
    database_pool_size: int
    database_pool_overflow: int
    database_pool_wait_seconds: int
    read_timeout_seconds: int
    statement_timeout_seconds: int
    job_timeout_seconds: int
    metrics_port: int | None
    metrics_host: str
    log_format: str
    log_level: str
    runs_jobs: bool

    @property
    def secure_cookies(self) -> bool:
        """Whether people reach the portal through TLS, so that cookies are for TLS alone."""
        return self.base_url.startswith("https://")

    @property
    def keyring(self) -> Keyring:
        """The secret key and the older ones."""
        previous = (each.encode() for each in self.previous_secret_keys)
        return Keyring(self.secret_key.encode(), previous)

    @property
    def vault(self) -> Vault:
        """What seals personal data, and what mails are made from."""
        return Vault(self.keyring)

    @property
    def shows_mailbox(self) -> bool:
        """Whether mail is shown on a page of this computer, because it can go nowhere."""
        return self.demo and self.smtp is None


@cache
def settings() -> Settings:
    """Return the settings of this process. Raises SettingsError."""
    return load_settings(os.environ)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read settings from `environ`. Raises SettingsError with all that is wrong."""
    reader = _Reader(environ)
    database_url = reader.database_url("DATABASE_URL")
    demo = reader.flag("DEMO", default=database_url is None)
    port = reader.number("PORT", 8501, lowest=1, highest=_HIGHEST_PORT)
    base_url = reader.base_url(port, demo=demo)
    secret_key = reader.secret_key(demo=demo)
    log_format = reader.choice(
        "LOG_FORMAT", ("text", "json"), "text" if sys.stderr.isatty() else "json"
    )
    loaded = Settings(
        database_url=database_url,
        migration_database_url=reader.database_url("MIGRATION_DATABASE_URL") or database_url,
        data_directory=Path(reader.text("DATA_DIR") or ROOT / ".data").expanduser().absolute(),
        port=port,
        base_url=base_url,
        allows_any_host=reader.text("BASE_URL") is None,
        demo=demo,
        secret_key=secret_key,
        previous_secret_keys=reader.previous_secret_keys(),
        smtp=reader.smtp(),
        mail_from=reader.text("MAIL_FROM") or f"billing@{urlsplit(base_url).hostname}",
        policy=reader.policy(secret_key, demo=demo),
        gateways=reader.gateways(port, demo=demo),
        trusted_proxies=reader.trusted_proxies(demo=demo),
        database_pool_size=reader.number("DATABASE_POOL_SIZE", 10, highest=1000),
        database_pool_overflow=reader.number("DATABASE_POOL_OVERFLOW", 10, lowest=0, highest=1000),
        database_pool_wait_seconds=reader.number("DATABASE_POOL_WAIT_SECONDS", 5, highest=60),
        read_timeout_seconds=reader.number("READ_TIMEOUT_SECONDS", 15, highest=3600),
        statement_timeout_seconds=reader.number("STATEMENT_TIMEOUT_SECONDS", 60, highest=3600),
        job_timeout_seconds=reader.number("JOB_TIMEOUT_SECONDS", 3600, highest=86_400),
        metrics_port=reader.metrics_port(port),
        metrics_host=reader.text("METRICS_HOST") or "127.0.0.1",
        log_format=log_format,
        log_level=reader.choice(
            "LOG_LEVEL",
            ("debug", "info", "warning", "error"),
            "info" if log_format == "json" else "warning",
        ),
        runs_jobs=reader.flag("JOBS", default=True),
    )
    if reader.problems:
        raise SettingsError(tuple(reader.problems))
    return loaded


class _Reader:
    """Reads one variable at a time, and keeps what is wrong with any of them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def flag(self, name: str, *, default: bool) -> bool:
        given = (self.text(name) or ("1" if default else "0")).lower()
        if given not in {"0", "1", "true", "false", "yes", "no"}:
            self.problems.append(f"{name} is 1 or 0.")
        return given in {"1", "true", "yes"}

    def number(self, name: str, default: int, *, lowest: int = 1, highest: int) -> int:
        given = self.text(name) or str(default)
        if given.isdecimal() and lowest <= int(given) <= highest:
            return int(given)
        self.problems.append(f"{name} is a whole number from {lowest} to {highest}.")
        return default

    def choice(self, name: str, words: tuple[str, ...], default: str) -> str:
        given = (self.text(name) or default).lower()
        if given in words:
            return given
        self.problems.append(f"{name} is {', '.join(words[:-1])} or {words[-1]}.")
        return default

    def metrics_port(self, port: int) -> int | None:
        if self.text("METRICS_PORT") is None:
            return None
        given = self.number("METRICS_PORT", 9464, highest=_HIGHEST_PORT)
        if given == port:
            self.problems.append("METRICS_PORT is another port than PORT: no visitor reads it.")
        return given

    def database_url(self, name: str) -> str | None:
        given = self.text(name)
        if given is None:
            return None
        try:
            url = make_url(given)
        except ArgumentError:
            url = None
        if url is None or url.get_backend_name() not in {"postgresql", "postgres"}:
            self.problems.append(f"{name} looks like postgresql://user:password@host/database.")
            return given
        return url.set(drivername=_DRIVER).render_as_string(hide_password=False)

    def base_url(self, port: int, *, demo: bool) -> str:
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
        parts = _web_address(given)
        if parts is None or parts.path:
            self.problems.append("BASE_URL looks like https://billing.example.com, with no path.")
            return fallback
        if not demo and not _is_private(parts):
            self.problems.append("BASE_URL starts with https:// outside the demo.")
        return parts.geturl()

    def secret_key(self, *, demo: bool) -> str:
        given = self.text("SECRET_KEY")
        if demo:
            return given or _DEMO_SECRET_KEY
        is_weak = (
            given is None
            or len(given) < _SHORTEST_SECRET_KEY
            or len(set(given)) < _FEWEST_DIFFERENT_CHARACTERS
            or given == _DEMO_SECRET_KEY
        )
        if is_weak:
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
        host = self.text("SMTP_HOST")
        if host is None:
            return None
        security = (self.text("SMTP_SECURITY") or "starttls").lower()
        if security not in {"starttls", "tls", "none"}:
            self.problems.append("SMTP_SECURITY is starttls, tls or none.")
        return Smtp(
            host=host,
            port=self.number("SMTP_PORT", 587, highest=_HIGHEST_PORT),
            user=self.text("SMTP_USER"),
            password=self.text("SMTP_PASSWORD"),
            security=security,
        )

    def policy(self, secret_key: str, *, demo: bool) -> AuthPolicy:
        minutes, hours = self._span("minutes"), self._span("hours")
        return AuthPolicy(
            key=secret_key.encode(),
            customer_idle=minutes("SESSION_IDLE_MINUTES", 480),
            customer_longest=hours("SESSION_MAX_HOURS", 168),
            staff_idle=minutes("SESSION_STAFF_IDLE_MINUTES", 60),
            staff_longest=hours("SESSION_STAFF_MAX_HOURS", 12),
            # The demo's people share a password that everybody knows.
            second_factor_roles=frozenset() if demo else SECOND_FACTOR_ROLES,
        )

    def gateways(self, port: int, *, demo: bool) -> GatewaySettings:
        sandbox_port = self.number(
            "SANDBOX_PORT", min(port + 1, _HIGHEST_PORT), highest=_HIGHEST_PORT
        )
        sandbox_url = (self.text("SANDBOX_URL") or f"http://localhost:{sandbox_port}").rstrip("/")
        if _web_address(sandbox_url) is None:
            self.problems.append(f"SANDBOX_URL looks like http://localhost:{sandbox_port}.")
        # Wherever browsers reach them, they run on this computer.
        sandbox = _Sandbox(sandbox_url, f"http://127.0.0.1:{sandbox_port}") if demo else None
        vnpay = _GatewayReader(self._environ, sandbox)
        stripe = _GatewayReader(self._environ, sandbox)
        paypal = _GatewayReader(self._environ, sandbox)
        vnpay_settings, stripe_settings = vnpay.vnpay(), stripe.stripe()
        paypal_settings = paypal.paypal()
        readers = {"vnpay": vnpay, "stripe": stripe, "paypal": paypal}
        uses_sandbox = any(each.uses_sandbox for each in readers.values())
        return GatewaySettings(
            vnpay=None if vnpay.problems else vnpay_settings,
            stripe=None if stripe.problems else stripe_settings,
            paypal=None if paypal.problems else paypal_settings,
            sandbox_url=sandbox_url if uses_sandbox else None,
            sandbox_port=sandbox_port if uses_sandbox else None,
            faults={name: tuple(each.problems) for name, each in readers.items() if each.problems},
        )

    def trusted_proxies(self, *, demo: bool) -> tuple[IPv4Network | IPv6Network, ...] | None:
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
        """Return what commas separate, without what is empty."""
        return tuple(part.strip() for part in (self.text(name) or "").split(",") if part.strip())

    def _span(self, unit: str) -> Callable[[str, int], timedelta]:
        def read(name: str, default: int) -> timedelta:
            return timedelta(**{unit: self.number(name, default, highest=100_000)})

        return read


@dataclass(frozen=True, slots=True)
class _Sandbox:
    """Where browsers and the portal reach the stand-ins."""

    url: str
    api: str


class _GatewayReader(_Reader):
    """Reads one gateway's variables. Its `problems` are of that gateway alone.

    With a `sandbox`, a gateway without variables has its stand-in. `uses_sandbox` tells that.
    """

    def __init__(self, environ: Mapping[str, str], sandbox: _Sandbox | None) -> None:
        super().__init__(environ)
        self._sandbox = sandbox
        self.uses_sandbox = False

    def vnpay(self) -> VNPaySettings | None:
        keys = self._keys("VNPAY_TMN_CODE", "VNPAY_HASH_SECRET")
        if keys is None:
            return None
        pay_url = self._address("VNPAY_PAY_URL", _VNPAY_PAY)
        api_url = self._address("VNPAY_API_URL", _VNPAY_API)
        if self._sandbox is not None and self.uses_sandbox:
            pay_url = f"{self._sandbox.url}/vnpay/paymentv2/vpcpay.html"
            api_url = f"{self._sandbox.api}/vnpay/merchant_webapi/api/transaction"
        server_ip = self.text("SERVER_IP") or "127.0.0.1"
        if not _is_ip_address(server_ip):
            self.problems.append("SERVER_IP is an address such as 203.0.113.5.")
        return VNPaySettings(
            tmn_code=keys[0],
            hash_secret=keys[1],
            pay_url=pay_url,
            api_url=api_url,
            is_sandbox=self.uses_sandbox or "sandbox" in pay_url,
            server_ip=server_ip,
        )

    def stripe(self) -> StripeSettings | None:
        keys = self._keys("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS")
        if keys is None:
            return None
        secrets = tuple(part.strip() for part in keys[1].split(",") if part.strip())
        if keys[0] and not keys[0].startswith(("sk_", "rk_")):
            self.problems.append("STRIPE_SECRET_KEY starts with sk_ or rk_.")
        if keys[1] and not (secrets and all(each.startswith("whsec_") for each in secrets)):
            self.problems.append("STRIPE_WEBHOOK_SECRETS has secrets that start with whsec_.")
        api_base = _STRIPE_API
        if self._sandbox is not None and self.uses_sandbox:
            api_base = f"{self._sandbox.api}/stripe"
        return StripeSettings(
            secret_key=keys[0],
            webhook_secrets=secrets,
            api_base=api_base,
            is_sandbox=self.uses_sandbox or "_test_" in keys[0],
        )

    def paypal(self) -> PayPalSettings | None:
        keys = self._keys("PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET", "PAYPAL_WEBHOOK_ID")
        if keys is None:
            return None
        api_base = self._address("PAYPAL_API_URL", _PAYPAL_API)
        if self._sandbox is not None and self.uses_sandbox:
            api_base = f"{self._sandbox.api}/paypal"
        chosen = PayPalSettings(
            client_id=keys[0],
            client_secret=keys[1],
            webhook_id=keys[2],
            api_base=api_base,
            is_sandbox=self.uses_sandbox or "sandbox" in api_base,
            brand_name=_BRAND,
        )
        if api_base.startswith("http://") and not chosen.has_stand_in:
            self.problems.append("PAYPAL_API_URL starts with https://.")
        return chosen

    def _keys(self, *names: str) -> tuple[str, ...] | None:
        """Return what a gateway knows us by: what was given, the demo's, or None.

        Half of it, what everybody knows and what no gateway gives are problems.
        """
        given = {name: self.text(name) for name in names}
        if not any(given.values()):
            self.uses_sandbox = self._sandbox is not None
            return tuple(_DEMO_SECRETS[name] for name in names) if self.uses_sandbox else None
        for name, value in given.items():
            parts = self.parts(name)
            if value is None:
                others = " and ".join(each for each in names if each != name)
                self.problems.append(f"{name} is missing: it goes with {others}.")
            elif not set(parts).isdisjoint(_DEMO_SECRETS.values()):
                self.problems.append(
                    f"{name} is the demo's, which everybody knows: use the one of your own account."
                )
            elif not all(_KEY.fullmatch(part) for part in parts):
                self.problems.append(f"{name} has a blank or another character that no key has.")
        return tuple(value or "" for value in given.values())

    def _address(self, name: str, default: str) -> str:
        """Return a gateway's address: nothing of it goes over the network in the clear."""
        given = (self.text(name) or default).rstrip("/")
        parts = _web_address(given)
        if parts is None or not _is_private(parts):
            self.problems.append(f"{name} is an address that starts with https://, as {default}.")
            return default
        return parts.geturl()


def _web_address(given: str) -> SplitResult | None:
    """Return the parts of an address with a host and at most a port and a path, or None."""
    try:
        parts = urlsplit(given)
        has_port = parts.port != 0
    except ValueError:
        return None
    host = parts.hostname or ""
    is_host = _HOST.fullmatch(host) is not None or _is_ip_address(host)
    is_plain = parts.username is None and not any(each in given for each in "?#\\")
    fits = parts.scheme in {"http", "https"} and is_host and has_port and is_plain
    return parts if fits and _KEY.fullmatch(given) else None


def _is_private(parts: SplitResult) -> bool:
    """Whether nobody else reads what is sent there: by TLS, or on this computer."""
    return parts.scheme == "https" or parts.hostname in LOOPBACK_HOSTS


def _is_ip_address(text: str) -> bool:
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
