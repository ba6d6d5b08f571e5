"""The settings from the environment, read once and checked as a whole.

| variable | meaning | default |
|---|---|---|
| `DATABASE_URL` | a PostgreSQL, version 15 or newer | its own, in `DATA_DIR` |
| `MIGRATION_DATABASE_URL` | the same database as the tables' owner | `DATABASE_URL` |
| `DATA_DIR` | where the portal's own PostgreSQL keeps its files | `.data`, see below |
| `CONFIG_DIR` | a folder with sites, prices and limits of yours | the built-in ones |
| `PG_BIN` | the folder with the programs that its own PostgreSQL runs by | see docs/operations.md |
| `PORT`, `HOST` | where the portal listens | 8501, 127.0.0.1 |
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
| `STRIPE_CARDS_SECRET_KEY`, `STRIPE_CARDS_WEBHOOK_SECRETS` | cards elsewhere | not offered |
| `STRIPE_CARDS` | 1 offers those in a demo, with test money | 0 |
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
| `ENV_FILE` | a file of such variables | `.env` in the working folder, if there |

The file has lines `NAME=value`, as python-dotenv reads them, in which `$` is an ordinary character.
What the environment itself has counts before it.

A secret can be in a file instead, alone on its one line: `NAME_FILE` names the file, as in
`SECRET_KEY_FILE=/run/secrets/portal-key`. That holds for `DATABASE_URL`, `MIGRATION_DATABASE_URL`,
`SECRET_KEY`, `SECRET_KEY_PREVIOUS`, `SMTP_PASSWORD` and each gateway's keys. `NAME` and `NAME_FILE`
together are refused.

Without `DATABASE_URL` and `DEMO` the portal starts as a demo on its own database: a plain
`streamlit run app.py` shows something at once. With `DATABASE_URL` it is not a demo unless
`DEMO=1` says so, and then it needs a secret key of its own, an address, which is https away from
this computer, and `TRUSTED_PROXIES`.

Without `DATA_DIR` a portal in a checkout keeps its data in the checkout's `.data`, and one that pip
has installed in the user's data folder, such as `~/.local/share/credit-portal`.

A gateway is used with its variables where they are set. Without them the demo has a stand-in with
test money, and elsewhere it is not offered. One whose variables are wrong is not offered
either: the log names what is wrong, and everything else works.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domain.security.keyring import Keyring
from domain.security.payload_encryption import Vault
from portal.runtime.env_files import read_env_file
from portal.runtime.environment import HIGHEST_PORT, Reader, Smtp
from portal.runtime.gateway_settings import GatewaySettings, read_gateways
from portal.runtime.installation import default_data_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

    from domain.identity import AuthPolicy


class SettingsError(Exception):
    """The environment is not a clear configuration; `problems` has a sentence for each problem."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings from the environment. Secrets stay out of its repr.

    `database_url` is None where the portal runs its own PostgreSQL in `data_directory`.
    `allows_any_host`: the portal's public name is not configured, so a form may come from whatever
    name it was served under. `trusted_proxies` is None where none are configured.
    """

    database_url: str | None = field(repr=False)
    migration_database_url: str | None = field(repr=False)
    data_directory: Path
    config_directory: Path | None
    port: int
    host: str
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
        """Whether people reach the portal over TLS, so that cookies are for TLS alone."""
        return self.base_url.startswith("https://")

    @property
    def keyring(self) -> Keyring:
        """The secret key and the older ones."""
        previous = (each.encode() for each in self.previous_secret_keys)
        return Keyring(self.secret_key.encode(), previous)

    @property
    def vault(self) -> Vault:
        """The vault that seals personal data, and the values of mails."""
        return Vault(self.keyring)

    @property
    def shows_mailbox(self) -> bool:
        """Whether mail is shown on a page of this computer, because it can go nowhere."""
        return self.demo and self.smtp is None


@cache
def settings() -> Settings:
    """Return the settings of this process, with those of its env file. Raises SettingsError."""
    problems = read_env_file(os.environ, Path.cwd())
    if problems:
        raise SettingsError(problems)
    return load_settings(os.environ)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read settings from `environ`. Raises SettingsError with all that is wrong."""
    reader = Reader(environ)
    database_url = reader.database_url("DATABASE_URL")
    demo = reader.flag("DEMO", default=database_url is None)
    port = reader.number("PORT", 8501, lowest=1, highest=HIGHEST_PORT)
    base_url = reader.base_url(port, demo=demo)
    secret_key = reader.secret_key(demo=demo)
    log_format = reader.choice(
        "LOG_FORMAT", ("text", "json"), "text" if sys.stderr.isatty() else "json"
    )
    loaded = Settings(
        database_url=database_url,
        migration_database_url=reader.database_url("MIGRATION_DATABASE_URL") or database_url,
        data_directory=Path(reader.text("DATA_DIR") or default_data_directory())
        .expanduser()
        .absolute(),
        config_directory=reader.folder("CONFIG_DIR"),
        port=port,
        host=reader.text("HOST") or "127.0.0.1",
        base_url=base_url,
        allows_any_host=reader.text("BASE_URL") is None,
        demo=demo,
        secret_key=secret_key,
        previous_secret_keys=reader.previous_secret_keys(),
        smtp=reader.smtp(),
        mail_from=reader.text("MAIL_FROM") or f"billing@{urlsplit(base_url).hostname}",
        policy=reader.policy(secret_key, demo=demo),
        gateways=read_gateways(reader, port, demo=demo),
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
