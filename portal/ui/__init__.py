"""Building blocks that pages and views share: they draw, and know no feature of the product."""
