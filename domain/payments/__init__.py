"""Money in, once: payments from the first click to credit, refunds, disputes and documents.

Services that take a `sessionmaker` speak to a gateway between transactions; all others are one
transaction of whoever calls them. docs/payments.md tells the rules.
"""
