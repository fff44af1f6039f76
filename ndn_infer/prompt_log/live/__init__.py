"""Prompt logs and the network: the log itself, who writes to it, who reads it, who watches it."""
