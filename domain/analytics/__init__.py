"""Figures over many accounts, for staff."""
