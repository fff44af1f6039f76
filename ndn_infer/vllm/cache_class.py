"""The cache class: what decides, beside the model and the chain value, which bytes a block has in vLLM.

Owns: these facts, and the label that stands for them in names. Pure. Must not know: vLLM, torch; whoever runs the model
collects the facts (pages.py, connector.py).

vLLM packs a block by the instructions of the machine, and rounds by its kernels. Blocks of two instances are used for
each other only where all of this is equal; another version of vLLM is another class, since nothing there promises that
bytes stay.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Final

from ndn_infer.errors import BadRecord

_FORMAT: Final = b"ndn-infer vllm cache class 1"
LABEL: Final = "vllm."
"""Begins the codec component of names: no block of our own engine has such a one."""
MOST_BYTES: Final = 1 << 20
"""Of one fact. The largest is the list of layers."""


@dataclass(frozen=True, slots=True)
class CacheClass:
    """Texts as vLLM and torch write them.

    `software`: versions of vLLM and torch. `config`: digest of the model's configuration as vLLM reads it, overrides
    included. `dtype`: of activations. `weights`: how weights are quantized. `kv_dtype`: of the cache. `block_tokens`.
    `attention`: backend. `machine`: device and what its rounding and packing follow (instructions, threads).
    `layers`: name, dtype, shape and strides of every layer's cache, without the number of blocks.
    `parallel`: ranks and sizes of everything that splits a layer or the layers. `compiled`: how kernels are fused.
    """

    software: str
    config: str
    dtype: str
    weights: str
    kv_dtype: str
    block_tokens: int
    attention: str
    machine: str
    layers: str
    parallel: str
    compiled: str

    @property
    def digest(self) -> bytes:
        """SHA-256 over all facts, each with its name and length. Raises BadRecord for one that is too long."""
        whole = hashlib.sha256(_FORMAT)
        for item in fields(self):
            value = str(getattr(self, item.name)).encode()
            if len(value) > MOST_BYTES:
                raise BadRecord(f"{item.name} of a cache class has {MOST_BYTES} bytes at most")
            whole.update(f"\0{item.name}\0{len(value)}\0".encode() + value)
        return whole.digest()

    @property
    def label(self) -> str:
        """The codec component of names."""
        return LABEL + self.digest.hex()[:32]
