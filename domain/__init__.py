"""The business rules: money, prices, the ledger, its services. Independent of pages and routes."""
