"""The audit log as people read it and take it away."""
