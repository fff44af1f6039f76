"""Objects and streams by name: fetching and serving."""
