"""NFD's management protocol. Pure."""
