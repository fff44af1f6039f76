"""Trust that is fetched: key records, revocations."""
