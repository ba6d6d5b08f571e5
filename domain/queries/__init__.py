"""What pages, exports and APIs read: every query checks its actor and changes nothing.

Each takes a session and keyword arguments and returns frozen dataclasses. Amounts are micros of
the account's currency; instants are in UTC.
"""
