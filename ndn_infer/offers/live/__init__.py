"""Offers on their way: read from nodes and this machine's producers, published by producers."""
