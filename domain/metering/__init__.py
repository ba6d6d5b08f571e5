"""Metered usage: rated, stored and charged; read by day, and forecast."""
