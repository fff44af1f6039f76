"""Answers and KV of others computed again (docs/audit.md)."""
