"""What support and finance do for customers: an account's page, acts on it, and approvals."""
