"""Add credit: the dialog from the amount to the gateway, and what people read on the way."""
