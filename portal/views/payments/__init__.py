"""Payments as staff see them: found by any of their names, with everything that happened."""
