"""Vouchers for customers: a code becomes credit, and what became of those before."""
