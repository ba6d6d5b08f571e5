"""How the gateways are reached: real ones by their variables, stand-ins in the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain.gateways.paypal.api import PayPalSettings
from domain.gateways.stripe.client import StripeSettings
from domain.gateways.vnpay.client import VNPaySettings
from portal.runtime.environment import (
    HIGHEST_PORT,
    KEY,
    Reader,
    is_ip_address,
    is_private,
    web_address,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


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
class Sandbox:
    """Where browsers and the portal reach the stand-ins."""

    url: str
    api: str


class GatewayReader(Reader):
    """Reads one gateway's variables. Its `problems` are of that gateway alone.

    With a `sandbox`, a gateway without variables has its stand-in. `uses_sandbox` tells that.
    """

    def __init__(self, environ: Mapping[str, str], sandbox: Sandbox | None) -> None:
        super().__init__(environ)
        self._sandbox = sandbox
        self.uses_sandbox = False

    def vnpay(self) -> VNPaySettings | None:
        """Return how VNPay is reached, or None."""
        keys = self._keys("VNPAY_TMN_CODE", "VNPAY_HASH_SECRET")
        if keys is None:
            return None
        pay_url = self._address("VNPAY_PAY_URL", _VNPAY_PAY)
        api_url = self._address("VNPAY_API_URL", _VNPAY_API)
        if self._sandbox is not None and self.uses_sandbox:
            pay_url = f"{self._sandbox.url}/vnpay/paymentv2/vpcpay.html"
            api_url = f"{self._sandbox.api}/vnpay/merchant_webapi/api/transaction"
        server_ip = self.text("SERVER_IP") or "127.0.0.1"
        if not is_ip_address(server_ip):
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
        """Return how Stripe is reached, or None."""
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
        """Return how PayPal is reached, or None."""
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
            elif not all(KEY.fullmatch(part) for part in parts):
                self.problems.append(f"{name} has a blank or another character that no key has.")
        return tuple(value or "" for value in given.values())

    def _address(self, name: str, default: str) -> str:
        """Return a gateway's address: nothing of it goes over the network in the clear."""
        given = (self.text(name) or default).rstrip("/")
        parts = web_address(given)
        if parts is None or not is_private(parts):
            self.problems.append(f"{name} is an address that starts with https://, as {default}.")
            return default
        return parts.geturl()


def read_gateways(reader: Reader, port: int, *, demo: bool) -> GatewaySettings:
    """Return how each gateway is reached; what is wrong with one leaves the others."""
    sandbox_port = reader.number("SANDBOX_PORT", min(port + 1, HIGHEST_PORT), highest=HIGHEST_PORT)
    sandbox_url = (reader.text("SANDBOX_URL") or f"http://localhost:{sandbox_port}").rstrip("/")
    if web_address(sandbox_url) is None:
        reader.problems.append(f"SANDBOX_URL looks like http://localhost:{sandbox_port}.")
    # Wherever browsers reach them, they run on this computer.
    sandbox = Sandbox(sandbox_url, f"http://127.0.0.1:{sandbox_port}") if demo else None
    vnpay = GatewayReader(reader.environ, sandbox)
    stripe = GatewayReader(reader.environ, sandbox)
    paypal = GatewayReader(reader.environ, sandbox)
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
