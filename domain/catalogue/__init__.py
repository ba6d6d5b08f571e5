"""What the product is configured by: sites, services, meters and prices."""
