"""The parts of finance's Analytics page."""
