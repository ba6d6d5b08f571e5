"""The product's configuration: sites, services, meters and prices."""
