"""Connections to the gateways: real ones by their variables, sandboxes in the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.gateways.registry import gateway_kinds
from portal.runtime.environment import HIGHEST_PORT, KEY, Reader, is_private, web_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from domain.gateways.registry import GatewayKind


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The connection settings of each offered gateway, by its name.

    `sandbox_url` is where browsers and the portal reach the stand-ins, and `sandbox_port` where
    they listen; both are None where no gateway needs them. `faults` has, for each gateway that is
    not offered because its variables are wrong, a sentence for each of them.
    """

    by_name: Mapping[str, object]
    sandbox_url: str | None
    sandbox_port: int | None
    faults: Mapping[str, tuple[str, ...]]


class GatewayReader(Reader):
    """Reads one gateway's variables. Its `problems` are of that gateway alone.

    In the demo, a gateway without variables uses the sandbox, which `uses_sandbox` shows.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        kind: GatewayKind,
        sandbox_url: str,
        sandbox_port: int,
        *,
        demo: bool,
    ) -> None:
        super().__init__(environ)
        self._kind = kind
        self._secret_names |= set(kind.demo_values)
        self._is_demo = demo
        self.uses_sandbox = False
        self.sandbox_url = sandbox_url
        # Wherever browsers reach them, they run on this computer.
        self.sandbox_api = f"http://127.0.0.1:{sandbox_port}"

    def keys(self, *names: str) -> tuple[str, ...] | None:
        """Return our credentials at a gateway: the configured ones, the demo's, or None.

        Incomplete credentials, the public ones of the demo and malformed ones are problems.
        """
        self._secret_names |= set(names)
        given = {name: self.text(name) for name in names}
        if not any(self.is_given(name) for name in names):
            self.uses_sandbox = self._is_demo and bool(self._kind.demo_values)
            return (
                tuple(map(self._kind.demo_values.__getitem__, names)) if self.uses_sandbox else None
            )
        known = {each for kind in gateway_kinds().values() for each in kind.demo_values.values()}
        for name in names:
            parts = self.parts(name)
            if not self.is_given(name):
                others = " and ".join(each for each in names if each != name)
                self.problems.append(f"{name} is missing: it goes with {others}.")
            elif not known.isdisjoint(parts):
                self.problems.append(
                    f"{name} is the demo's, which everybody knows: use the one of your own account."
                )
            elif not all(KEY.fullmatch(part) for part in parts):
                self.problems.append(f"{name} has a blank or another character that no key has.")
        return tuple(value or "" for value in given.values())

    def address(self, name: str, default: str) -> str:
        """Return a gateway's address: it must not be reached over the network in the clear."""
        given = (self.text(name) or default).rstrip("/")
        parts = web_address(given)
        if parts is None or not is_private(parts):
            self.problems.append(f"{name} is an address that starts with https://, as {default}.")
            return default
        return parts.geturl()


def read_gateways(reader: Reader, port: int, *, demo: bool) -> GatewaySettings:
    """Return the settings of each gateway; an error in one does not affect the others."""
    sandbox_port = reader.number("SANDBOX_PORT", min(port + 1, HIGHEST_PORT), highest=HIGHEST_PORT)
    sandbox_url = (reader.text("SANDBOX_URL") or f"http://localhost:{sandbox_port}").rstrip("/")
    if web_address(sandbox_url) is None:
        reader.problems.append(f"SANDBOX_URL looks like http://localhost:{sandbox_port}.")
    by_name: dict[str, object] = {}
    faults: dict[str, tuple[str, ...]] = {}
    uses_sandbox = False
    for name, kind in gateway_kinds().items():
        own = GatewayReader(reader.environ, kind, sandbox_url, sandbox_port, demo=demo)
        settings = kind.read_settings(own)
        uses_sandbox |= own.uses_sandbox
        if own.problems:
            faults[name] = tuple(own.problems)
        elif settings is not None:
            by_name[name] = settings
    return GatewaySettings(
        by_name=by_name,
        sandbox_url=sandbox_url if uses_sandbox else None,
        sandbox_port=sandbox_port if uses_sandbox else None,
        faults=faults,
    )
