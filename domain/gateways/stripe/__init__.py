"""Stripe: its client, and what its events and objects say of payments."""
