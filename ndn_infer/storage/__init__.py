"""Stores of objects, in memory and on disk."""
