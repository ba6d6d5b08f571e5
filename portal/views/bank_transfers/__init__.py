"""Bank transfers, as finance records them and somebody else approves them."""
