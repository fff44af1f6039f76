"""Sockets, clocks, files: what runs the forwarder."""
