"""The portal behind a real nginx: whose address sign-in, its throttle and the pages have."""

from __future__ import annotations

import json
import re
import socket
import ssl
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import pytest
from sqlalchemy import text
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from db.engine import make_engine, make_sessions
from domain import identity, uploads
from domain.actors import StaffRole
from tests import factories
from tests.support import nginx
from tests.support.environment import OUTSIDE_DEMO, bare_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

PASSWORD = "violet-kettle-9-march"
FORGED = "203.0.113.9"
PATIENCE_SECONDS = 240


@dataclass(frozen=True)
class Site:
    """A portal behind nginx, and where both are reached."""

    address: str
    http_address: str
    portal_address: str
    tls: ssl.SSLContext
    log: Path
    sessions: sessionmaker[Session]

    def browser(self, address: str, **headers: str) -> httpx2.Client:
        """A browser on a computer of that address."""
        return httpx2.Client(
            base_url=self.address,
            transport=httpx2.HTTPTransport(verify=self.tls, local_address=address),
            headers={"Origin": self.address, "Accept": "text/html", **headers},
            timeout=PATIENCE_SECONDS,
        )

    def person(self, email: str, role: StaffRole | None = None) -> str:
        with self.sessions.begin() as session:
            identity.create_user(
                session,
                email=email,
                display_name="Lan",
                password=PASSWORD,
                staff_role=role,
                actor=factories.SYSTEM,
            )
        return email

    def ask(self, question: str, **values: object) -> list[object]:
        with self.sessions() as session:
            return list(session.execute(text(question), values).scalars())


def _has_more_addresses() -> bool:
    """Whether this computer has the whole of 127.0.0.0/8, as Linux has."""
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def site(
    make_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    if nginx.program() is None:
        pytest.skip("there is no nginx here: apt install nginx")
    if not _has_more_addresses():
        pytest.skip("visitors need addresses of their own: 127.0.0.2 is none of this computer")
    folder = tmp_path_factory.mktemp("nginx")
    portal_port, https_port, http_port = nginx.free_ports(3)
    url, address = make_database(), f"https://{nginx.HOST}:{https_port}"
    environment = {
        **bare_environment(),
        **OUTSIDE_DEMO,
        "DATABASE_URL": url,
        "DATA_DIR": str(folder / "data"),
        "PORT": str(portal_port),
        "BASE_URL": address,
        "TRUSTED_PROXIES": "127.0.0.1",
        "JOBS": "0",
        "LOG_FORMAT": "json",
    }
    sites = nginx.documented(portal_port, https_port, http_port, folder)
    engine = make_engine(url)
    with (
        nginx.portal(environment, folder / "portal.log"),
        nginx.running(sites, folder) as certificate,
    ):
        yield Site(
            address,
            f"http://{nginx.HOST}:{http_port}",
            f"http://{nginx.HOST}:{portal_port}",
            ssl.create_default_context(cafile=certificate),
            folder / "portal.log",
            make_sessions(engine),
        )
    engine.dispose()


def sign_in(browser: httpx2.Client, email: str, password: str = PASSWORD) -> httpx2.Response:
    page = browser.get("/sign-in")
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
    assert token, page.text
    fields = {"form_token": token[1], "email": email, "password": password}
    return browser.post("/sign-in", data=fields)


def test_session_has_the_visitor_s_address_and_not_what_the_visitor_says(site: Site) -> None:
    email = site.person("lan@example.com")
    with site.browser("127.0.0.2", **{"X-Forwarded-For": FORGED}) as browser:
        answer = sign_in(browser, email)
    assert answer.status_code == 303
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "Strict-Transport-Security" in answer.headers
    asked = "SELECT s.address FROM user_sessions s JOIN users u ON u.id = s.user_id"
    assert site.ask(f"{asked} WHERE u.email = :email", email=email) == ["127.0.0.2"]


def test_wrong_guesses_of_one_visitor_lock_no_other_out(site: Site) -> None:
    """Behind nginx everybody had one address, and thirty guesses shut administrators out."""
    admin = site.person("boss@example.com", StaffRole.ADMIN)
    with site.browser("127.0.0.3") as guesser:
        for number in range(30):
            # A made-up address in the header does not make another visitor of this one.
            guesser.headers["X-Forwarded-For"] = f"203.0.113.{number}"
            answer = sign_in(guesser, f"nobody-{number}@example.com", "wrong-guess-12")
            assert answer.status_code == 403
        assert sign_in(guesser, admin).status_code == 429
    with site.browser("127.0.0.4") as browser:
        assert sign_in(browser, admin).status_code == 303


def test_websocket_has_the_visitor_s_address(site: Site) -> None:
    email = site.person("support@example.com", StaffRole.SUPPORT)
    with site.sessions.begin() as session:
        account = factories.make_account(session)
    with site.browser("127.0.0.5") as browser:
        assert sign_in(browser, email).status_code == 303
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    stream = connect(
        f"{site.address.replace('https', 'wss')}/_stcore/stream",
        ssl=site.tls,
        source_address=("127.0.0.5", 0),
        origin=Origin(site.address),
        subprotocols=[Subprotocol("streamlit"), Subprotocol("no-token")],
        additional_headers={"Cookie": cookie, "X-Forwarded-For": FORGED},
        max_size=None,
        open_timeout=PATIENCE_SECONDS,
    )
    with stream as page:
        wish = BackMsg()
        wish.rerun_script.query_string = f"account={account}"
        wish.rerun_script.context_info.timezone = "UTC"
        wish.rerun_script.context_info.locale = "en-US"
        wish.rerun_script.context_info.url = f"{site.address}/"
        page.send(wish.SerializeToString())
        while True:
            received = page.recv(timeout=PATIENCE_SECONDS)
            assert isinstance(received, bytes)
            if ForwardMsg.FromString(received).WhichOneof("type") == "script_finished":
                break
    asked = "SELECT address FROM audit_log WHERE action = 'look_at_account' AND account_id = :id"
    assert site.ask(asked, id=account) == ["127.0.0.5"]


def test_peer_that_is_no_proxy_is_not_believed_and_named_once_in_the_log(site: Site) -> None:
    direct = httpx2.HTTPTransport(local_address="127.0.0.6")
    with httpx2.Client(transport=direct, timeout=PATIENCE_SECONDS) as browser:
        for forged in (FORGED, "127.0.0.1"):
            headers = {"X-Forwarded-For": forged, "X-Forwarded-Proto": "https"}
            assert browser.get(f"{site.portal_address}/health", headers=headers).is_success
    lines = [json.loads(line) for line in site.log.read_text().splitlines()]
    warned = [line["message"] for line in lines if line["logger"] == "portal.routes.proxies"]
    assert len(warned) == 1
    assert warned[0].startswith("X-Forwarded-For from 127.0.0.6 is ignored")


def test_plain_http_is_sent_to_https(site: Site) -> None:
    answer = httpx2.get(f"{site.http_address}/sign-in?next=/usage", timeout=PATIENCE_SECONDS)
    assert (answer.status_code, answer.headers["location"]) == (
        301,
        f"{site.address}/sign-in?next=/usage",
    )


def test_largest_upload_passes_and_more_does_not(site: Site) -> None:
    largest = uploads.MAX_BYTES
    with site.browser("127.0.0.7") as browser:
        # Nobody's upload: it is refused, but the request came that far.
        path = f"/uploads/codes/{uuid.uuid4()}"
        passed = browser.put(path, content=b"x" * largest)
        assert passed.status_code == 403
        assert "X-Request-Id" in passed.headers
        refused = browser.put(path, content=b"x" * (2 * largest))
        assert refused.status_code == 413
        assert "X-Request-Id" not in refused.headers
