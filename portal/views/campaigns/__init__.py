"""Campaigns for finance: what codes give, who agreed to it, and the codes themselves."""

OUTCOME = "campaigns"
"""The place of the page at which it says what an action came to."""
