"""PayPal's REST API: its token, requests that are repeated safely, answers that can be read."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

from domain.gateways.guards import optional_text
from domain.gateways.interface import GatewayUnavailable

if TYPE_CHECKING:
    from domain.gateways.paypal.settings import PayPalSettings

_log = logging.getLogger(__name__)
MAX_TEXT_LENGTH = 127
NAME = "paypal"
_TIMEOUT = httpx2.Timeout(20, connect=5)
# Money that was captured does not wait long for what else there is to say of it.
FOLLOW_UP_TIMEOUT = httpx2.Timeout(10, connect=5)
_MAX_ANSWER_LENGTH = 1024 * 1024
_NANOSECONDS = 1_000_000_000
_TOKEN_MARGIN_SECONDS = 120


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What PayPal answered: at most a refusal, with its own code of the reason."""

    status: int
    body: dict[str, Any]

    @property
    def is_good(self) -> bool:
        """Whether it was done."""
        return self.status in {httpx2.codes.OK, httpx2.codes.CREATED}

    @property
    def issue(self) -> str:
        """PayPal's most exact code of what is wrong."""
        details = self.body.get("details")
        first = details[0] if isinstance(details, list) and details else None
        issue = first.get("issue") if isinstance(first, dict) else None
        code = optional_text(issue) or optional_text(self.body.get("name"))
        return code or f"HTTP {self.status}"


class PayPalApi:
    """PayPal's API under one application's keys; its token is fetched when needed and kept."""

    def __init__(self, settings: PayPalSettings, transport: httpx2.BaseTransport | None) -> None:
        self._settings = settings
        self._client = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False, transport=transport)
        self._lock = threading.Lock()
        self._token = ""  # nosec B105 - none was fetched yet
        self._token_ends_ns = 0

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        request_id: str | None = None,
        timeout: httpx2.Timeout = _TIMEOUT,
    ) -> ApiAnswer:
        """Return what PayPal did or refused; raise GatewayUnavailable where that is unknown."""
        headers = {"Prefer": "return=representation"}
        if request_id is not None:
            headers["PayPal-Request-Id"] = request_id
        token = self._current_token()
        response = self._send(method, path, body, _bearing(token, headers), timeout)
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            token = self._current_token(worn_out=token)
            response = self._send(method, path, body, _bearing(token, headers), timeout)
        return self._read(response)

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
        timeout: httpx2.Timeout,
    ) -> httpx2.Response:
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers = {**headers, "Content-Type": "application/json"}
        try:
            return self._client.request(
                method,
                self._settings.api_base.rstrip("/") + path,
                content=content,
                headers=headers,
                timeout=timeout,
            )
        except httpx2.HTTPError as error:
            raise GatewayUnavailable(NAME, type(error).__name__) from None

    def _read(self, response: httpx2.Response) -> ApiAnswer:
        status = response.status_code
        body = _json_object(response)
        is_client_error = httpx2.codes.is_client_error(status)
        if is_client_error or httpx2.codes.is_server_error(status):
            answer = ApiAnswer(status, body or {})
            _log.warning(
                "PayPal answers %d %s (debug_id %s)", status, answer.issue, _debug_id(response)
            )
        passing = {
            httpx2.codes.UNAUTHORIZED,
            httpx2.codes.REQUEST_TIMEOUT,
            httpx2.codes.CONFLICT,
            httpx2.codes.TOO_MANY_REQUESTS,
        }
        if status in passing or body is None:
            raise GatewayUnavailable(NAME, f"HTTP {status}")
        if not is_client_error and status not in {httpx2.codes.OK, httpx2.codes.CREATED}:
            raise GatewayUnavailable(NAME, f"HTTP {status}")
        return ApiAnswer(status, body)

    def _current_token(self, worn_out: str | None = None) -> str:
        """Return a token that is not about to end and is not the one that was refused."""
        with self._lock:
            is_fresh = time.monotonic_ns() < self._token_ends_ns
            if not self._token or not is_fresh or self._token == worn_out:
                self._token, seconds = self._fetch_token()
                lasts = max(0, seconds - _TOKEN_MARGIN_SECONDS) * _NANOSECONDS
                self._token_ends_ns = time.monotonic_ns() + lasts
            return self._token

    def _fetch_token(self) -> tuple[str, int]:
        try:
            response = self._client.post(
                self._settings.api_base.rstrip("/") + "/v1/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(self._settings.client_id, self._settings.client_secret),
            )
        except httpx2.HTTPError as error:
            raise GatewayUnavailable(NAME, type(error).__name__) from None
        body = _json_object(response) or {}
        token, seconds = body.get("access_token"), body.get("expires_in")
        is_token = isinstance(token, str) and token.isascii() and token.isprintable() and token
        if response.status_code != httpx2.codes.OK or not is_token:
            # Keys can be put right, and nothing was asked for yet: this is no refusal.
            reason = optional_text(body.get("error")) or f"HTTP {response.status_code}"
            _log.error("PayPal gives no token: %s (debug_id %s)", reason, _debug_id(response))
            raise GatewayUnavailable(NAME, f"token {reason}"[:MAX_TEXT_LENGTH])
        return str(token), seconds if isinstance(seconds, int) else 0


def _bearing(token: str, headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "Authorization": f"Bearer {token}"}


def _json_object(response: httpx2.Response) -> dict[str, Any] | None:
    if len(response.content) > _MAX_ANSWER_LENGTH:
        return None
    try:
        found = json.loads(response.content)
    except (RecursionError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _debug_id(response: httpx2.Response) -> str:
    return response.headers.get("paypal-debug-id", "-")[:MAX_TEXT_LENGTH]
