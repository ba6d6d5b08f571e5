"""Campaigns for finance: what codes give, who agreed to it, and the codes themselves."""
