"""Exchange rates and the limits of top-ups, as finance keeps them."""
