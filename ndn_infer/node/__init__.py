"""This machine in a network: its name there, its keys, and one joined application (node.py)."""
