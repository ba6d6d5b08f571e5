"""PayPal: orders and captures, refunds, disputes, and webhooks."""
