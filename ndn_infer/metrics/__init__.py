"""What processes count about themselves, how it is exposed, and what reads it (docs/metrics.md)."""
