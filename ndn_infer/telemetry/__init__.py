"""Traces: what one question took, across processes (docs/metrics.md)."""
