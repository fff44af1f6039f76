"""A repo: keeps objects of others by name."""
