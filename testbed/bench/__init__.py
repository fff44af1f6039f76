"""Benchmarks: each prints a table for people, then one JSON line (`ndn-infer bench NAME`)."""
