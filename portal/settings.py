"""What the environment decides, read once and checked as a whole.

| variable | meaning | default |
|---|---|---|
| `DATABASE_URL` | a PostgreSQL, version 15 or newer | its own, in `DATA_DIR` |
| `MIGRATION_DATABASE_URL` | the same database as the tables' owner | `DATABASE_URL` |
| `DATA_DIR` | where the portal's own PostgreSQL keeps its files | `.data` in the checkout |
| `PORT` | where the portal listens | 8501 |
| `BASE_URL` | how people reach it, for links in mails and for cookies | `http://localhost:PORT` |
| `DEMO` | 1: sample accounts, known passwords, mail shown on a page; 0: none of it | see below |
| `SECRET_KEY` | 32 or more random characters | only the demo has one |
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
| `TRUSTED_PROXIES` | addresses or networks whose X-Forwarded-For counts | this computer |
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
`DEMO=1` says so, and then it needs a secret key of its own and, away from this computer, https.

A gateway whose variables are set is spoken to with them. One whose are not has a stand-in with test
money in the demo, and is not offered outside of it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from domain.gateways.paypal import PayPalSettings
from domain.gateways.stripe_checkout import StripeSettings
from domain.gateways.vnpay import VNPaySettings
from domain.identity import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))

_DEMO_SECRET_KEY = "demo-secret-key-that-everybody-knows"  # noqa: S105 - refused outside the demo
_SHORTEST_SECRET_KEY = 32
_HIGHEST_PORT = 65_535
_DRIVER = "postgresql+psycopg2"


_VNPAY_PAY = "https://pay.vnpay.vn/vpcpay.html"
_VNPAY_API = "https://merchant.vnpay.vn/merchant_webapi/api/transaction"
_STRIPE_API = "https://api.stripe.com"
_PAYPAL_API = "https://api-m.paypal.com"
_BRAND = "AI Marketplace"
# The stand-ins know the same, so that a demo needs no account anywhere. Nothing else takes them.
_DEMO_SECRETS = {
    "VNPAY_TMN_CODE": "DEMOTMN1",
    "VNPAY_HASH_SECRET": "DEMO-VNPAY-HASH-SECRET-0123456789",
    "STRIPE_SECRET_KEY": "sk_test_demo_0123456789",
    "STRIPE_WEBHOOK_SECRETS": "whsec_demo_0123456789",
    "PAYPAL_CLIENT_ID": "demo-client-id",
    "PAYPAL_CLIENT_SECRET": "demo-client-secret-0123456789",
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
    they listen; both are None where no gateway needs them.
    """

    vnpay: VNPaySettings | None
    stripe: StripeSettings | None
    paypal: PayPalSettings | None
    sandbox_url: str | None
    sandbox_port: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides. Secrets stay out of its repr.

    `database_url` is None where the portal runs its own PostgreSQL in `data_directory`.
    `allows_any_host`: nobody said under which name people reach the portal, so a form may come
    from whatever name it was served under.
    """

    database_url: str | None = field(repr=False)
    migration_database_url: str | None = field(repr=False)
    data_directory: Path
    port: int
    base_url: str
    allows_any_host: bool
    demo: bool
    secret_key: str = field(repr=False)
    smtp: Smtp | None
    mail_from: str
    rules: Rules
    gateways: GatewaySettings
    trusted_proxies: tuple[str, ...]
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
        smtp=reader.smtp(),
        mail_from=reader.text("MAIL_FROM") or f"billing@{urlsplit(base_url).hostname}",
        rules=reader.rules(secret_key),
        gateways=reader.gateways(port, demo=demo),
        trusted_proxies=reader.networks("TRUSTED_PROXIES"),
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


@dataclass(frozen=True, slots=True)
class _Keys:
    """What a gateway knows us by, in the order that it was asked for."""

    values: tuple[str, ...] = field(repr=False)
    is_demo: bool


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
        given = (self.text("BASE_URL") or f"http://localhost:{port}").rstrip("/")
        parts = urlsplit(given)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path:
            self.problems.append("BASE_URL looks like https://billing.example.com, with no path.")
        elif parts.scheme == "http" and not demo and parts.hostname not in LOOPBACK_HOSTS:
            self.problems.append("BASE_URL starts with https:// outside the demo.")
        return given

    def secret_key(self, *, demo: bool) -> str:
        given = self.text("SECRET_KEY")
        if demo:
            return given or _DEMO_SECRET_KEY
        if given is None or len(given) < _SHORTEST_SECRET_KEY or given == _DEMO_SECRET_KEY:
            self.problems.append(
                f"SECRET_KEY needs {_SHORTEST_SECRET_KEY} or more random characters outside the"
                ' demo. Make one: python -c "import secrets; print(secrets.token_urlsafe(48))"'
            )
        return given or ""

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

    def rules(self, secret_key: str) -> Rules:
        minutes, hours = self._span("minutes"), self._span("hours")
        return Rules(
            key=secret_key.encode(),
            customer_idle=minutes("SESSION_IDLE_MINUTES", 480),
            customer_longest=hours("SESSION_MAX_HOURS", 168),
            staff_idle=minutes("SESSION_STAFF_IDLE_MINUTES", 60),
            staff_longest=hours("SESSION_STAFF_MAX_HOURS", 12),
        )

    def gateways(self, port: int, *, demo: bool) -> GatewaySettings:
        sandbox_port = self.number(
            "SANDBOX_PORT", min(port + 1, _HIGHEST_PORT), highest=_HIGHEST_PORT
        )
        sandbox_url = (self.text("SANDBOX_URL") or f"http://localhost:{sandbox_port}").rstrip("/")
        # Wherever browsers reach them, they run on this computer.
        sandbox_api = f"http://127.0.0.1:{sandbox_port}"
        vnpay = self._keys(demo, "VNPAY_TMN_CODE", "VNPAY_HASH_SECRET")
        stripe = self._keys(demo, "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS")
        paypal = self._keys(demo, "PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET", "PAYPAL_WEBHOOK_ID")
        uses_sandbox = any(keys and keys.is_demo for keys in (vnpay, stripe, paypal))
        return GatewaySettings(
            vnpay=None if vnpay is None else self._vnpay(vnpay, sandbox_url, sandbox_api),
            stripe=None if stripe is None else self._stripe(stripe, sandbox_api),
            paypal=None if paypal is None else self._paypal(paypal, sandbox_api),
            sandbox_url=sandbox_url if uses_sandbox else None,
            sandbox_port=sandbox_port if uses_sandbox else None,
        )

    def _keys(self, demo: bool, *names: str) -> _Keys | None:  # noqa: FBT001 - one of ours
        """Return a gateway's keys: those given, the demo's, or none; half of them is a fault."""
        given = {name: self.text(name) for name in names}
        if not any(given.values()):
            return (
                _Keys(tuple(_DEMO_SECRETS[name] for name in names), is_demo=True) if demo else None
            )
        for name, value in given.items():
            if value is None:
                self.problems.append(f"{name} goes with {' and '.join(set(names) - {name})}.")
            elif value == _DEMO_SECRETS[name]:
                self.problems.append(f"{name} is the demo's, which everybody knows.")
        return _Keys(tuple(value or "" for value in given.values()), is_demo=False)

    def _vnpay(self, keys: _Keys, sandbox_url: str, sandbox_api: str) -> VNPaySettings:
        pay_url = self.text("VNPAY_PAY_URL") or _VNPAY_PAY
        api_url = self.text("VNPAY_API_URL") or _VNPAY_API
        if keys.is_demo:
            pay_url = f"{sandbox_url}/vnpay/paymentv2/vpcpay.html"
            api_url = f"{sandbox_api}/vnpay/merchant_webapi/api/transaction"
        return VNPaySettings(
            tmn_code=keys.values[0],
            hash_secret=keys.values[1],
            pay_url=pay_url,
            api_url=api_url,
            is_sandbox=keys.is_demo or "sandbox" in pay_url,
            server_ip=self.text("SERVER_IP") or "127.0.0.1",
        )

    def _stripe(self, keys: _Keys, sandbox_api: str) -> StripeSettings:
        return StripeSettings(
            secret_key=keys.values[0],
            webhook_secrets=tuple(part.strip() for part in keys.values[1].split(",")),
            api_base=f"{sandbox_api}/stripe" if keys.is_demo else _STRIPE_API,
            is_sandbox=keys.is_demo or "_test_" in keys.values[0],
        )

    def _paypal(self, keys: _Keys, sandbox_api: str) -> PayPalSettings:
        api_base = (self.text("PAYPAL_API_URL") or _PAYPAL_API).rstrip("/")
        return PayPalSettings(
            client_id=keys.values[0],
            client_secret=keys.values[1],
            webhook_id=keys.values[2],
            api_base=f"{sandbox_api}/paypal" if keys.is_demo else api_base,
            is_sandbox=keys.is_demo or "sandbox" in api_base,
            brand_name=_BRAND,
        )

    def networks(self, name: str) -> tuple[str, ...]:
        given = tuple(part.strip() for part in (self.text(name) or "").split(",") if part.strip())
        for part in given:
            try:
                ip_network(part)
            except ValueError:
                self.problems.append(f"{name} has addresses or networks such as 10.0.0.0/8.")
        return given

    def _span(self, unit: str) -> Callable[[str, int], timedelta]:
        def read(name: str, default: int) -> timedelta:
            return timedelta(**{unit: self.number(name, default, highest=100_000)})

        return read
