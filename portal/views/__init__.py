"""What pages draw, a package for each feature; none imports another, or a route."""
