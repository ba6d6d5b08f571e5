"""What people see: pages, own routes, and the words and formats on them."""
