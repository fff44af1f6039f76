"""KV cache by name: blocks of a prompt's keys and values as signed objects, found, fetched, computed and published.

Below `functions/`, which say when; above `transport/`, which moves bytes. torch is here because a block is a tensor.
"""
