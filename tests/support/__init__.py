"""What several tests share: histories, and people who make them."""
