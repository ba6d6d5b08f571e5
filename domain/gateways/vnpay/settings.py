"""Read the settings of VNPay from the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain.gateways.registry import SettingsReader

_PAY = "https://pay.vnpay.vn/vpcpay.html"
_API = "https://merchant.vnpay.vn/merchant_webapi/api/transaction"


@dataclass(frozen=True, slots=True)
class VNPaySettings:
    """A terminal and its secret, VNPay's two addresses, and the address of our server."""

    tmn_code: str
    hash_secret: str = field(repr=False)
    pay_url: str
    api_url: str
    is_sandbox: bool
    server_ip: str = "127.0.0.1"


def read_settings(reader: SettingsReader) -> VNPaySettings | None:
    """Return how VNPay is reached, or None."""
    keys = reader.keys("VNPAY_TMN_CODE", "VNPAY_HASH_SECRET")
    if keys is None:
        return None
    pay_url = reader.address("VNPAY_PAY_URL", _PAY)
    api_url = reader.address("VNPAY_API_URL", _API)
    if reader.uses_sandbox:
        pay_url = f"{reader.sandbox_url}/vnpay/paymentv2/vpcpay.html"
        api_url = f"{reader.sandbox_api}/vnpay/merchant_webapi/api/transaction"
    server_ip = reader.text("SERVER_IP") or "127.0.0.1"
    if not _is_ip_address(server_ip):
        reader.problems.append("SERVER_IP is an address such as 203.0.113.5.")
    return VNPaySettings(
        tmn_code=keys[0],
        hash_secret=keys[1],
        pay_url=pay_url,
        api_url=api_url,
        is_sandbox=reader.uses_sandbox or "sandbox" in pay_url,
        server_ip=server_ip,
    )


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
