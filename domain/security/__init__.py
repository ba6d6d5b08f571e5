"""Keys and digests, encrypted payloads, passwords, rate limits."""
