"""A PostgreSQL of our own: its programs, its data directory, and the server that runs there."""
