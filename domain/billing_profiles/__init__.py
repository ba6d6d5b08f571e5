"""Who an account's bills are made out to: saved version by version, never changed or erased.

The first profile locks the account's currency. What is kept has been checked and brought into one
form; the newest version is the current one, and a payment remembers which it was made under.
"""

from domain.billing_profiles.queries import (
    ProfileChoices,
    ProfileVersion,
    current_profile,
    find_profile,
    profile_choices,
    profile_history,
)
from domain.billing_profiles.service import SavedProfile, save_profile
from domain.billing_profiles.tax_codes import MAX_TAX_CODE_LENGTH, checked_tax_code
from domain.billing_profiles.validation import (
    MAX_ADDRESS_LENGTH,
    MAX_CITY_LENGTH,
    MAX_NAME_LENGTH,
    BillingProfile,
    ProfileKind,
    checked_profile,
    profile_faults,
)

__all__ = [
    "MAX_ADDRESS_LENGTH",
    "MAX_CITY_LENGTH",
    "MAX_NAME_LENGTH",
    "MAX_TAX_CODE_LENGTH",
    "BillingProfile",
    "ProfileChoices",
    "ProfileKind",
    "ProfileVersion",
    "SavedProfile",
    "checked_profile",
    "checked_tax_code",
    "current_profile",
    "find_profile",
    "profile_choices",
    "profile_faults",
    "profile_history",
    "save_profile",
]
