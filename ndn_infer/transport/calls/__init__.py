"""Calls of named functions: the caller's side, and inputs by name."""
