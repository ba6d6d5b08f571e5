"""Who works here, and what an access review takes away."""
