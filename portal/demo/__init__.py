"""The demo: sample accounts with three months of history, created by the portal's own services."""

from portal.demo.campaigns import VOUCHER_CODE, load_campaigns, load_rates
from portal.demo.loading import anyone_can_sign_in, load
from portal.demo.people import DAYS, INVITED, PASSWORD, PEOPLE, SIGN_INS, WALLETS, Wallet

__all__ = [
    "DAYS",
    "INVITED",
    "PASSWORD",
    "PEOPLE",
    "SIGN_INS",
    "VOUCHER_CODE",
    "WALLETS",
    "Wallet",
    "anyone_can_sign_in",
    "load",
    "load_campaigns",
    "load_rates",
]
