"""Evidence and the network: what is fetched, made and published of it."""
