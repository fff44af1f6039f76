"""Judging text under a policy, and showing nothing that no verdict covers. Pure: no socket, no clock, no event loop."""
