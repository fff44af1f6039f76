"""This machine in a network: its name there, its keys, and one joined application (node.py)."""

from ndn_infer.node.node import Node

__all__ = ["Node"]
