"""What is true: money, prices, the ledger and its services. Knows nothing of pages or routes."""
