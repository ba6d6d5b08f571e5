"""Building blocks that pages and views share: they draw, and contain no feature of the product."""
