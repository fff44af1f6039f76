"""Retrieval over a folder of texts: passages, a vector index and the corpus that joins them.

Owns: how texts become passages, how passages are ranked, and the cache of both. Knows text and vectors only: no names,
no network, no torch. Embedding vectors come from a callable that the caller brings.
"""
