"""Prompt logs: calls and answers as leaves of a Merkle tree, readable until a user's key is destroyed. Pure."""
