"""vLLM's paged cache, block by block: bytes out, bytes in.

Owns: where a block lies in the tensors that vLLM registered, and what about them belongs to the cache class. Must not
know: vLLM's classes, names, the network.

A block is moved whole: inside, it is packed as the attention kernel of this machine wants it. On a device, copies are
ordered by the current stream like the step itself, and have happened when these functions return.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord
from ndn_infer.vllm.codec import BlockShape

_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class LayerPages:
    """One layer's cache; `dim` counts the blocks."""

    name: str
    tensor: Tensor
    dim: int

    @property
    def block_bytes(self) -> int:
        return self.tensor.nbytes // self.tensor.shape[self.dim]

    @property
    def facts(self) -> str:
        shape = [size for dim, size in enumerate(self.tensor.shape) if dim != self.dim]
        strides = [size for dim, size in enumerate(self.tensor.stride()) if dim != self.dim]
        return f"{self.name} {self.tensor.dtype} {shape} {strides}"

    def block(self, number: int) -> Tensor:
        return self.tensor.select(self.dim, number)


class PagedCache:
    """All layers of one worker, in the order of their numbers."""

    def __init__(self, caches: Mapping[str, Tensor], blocks: int) -> None:
        """`blocks` as vLLM counts them. Raises BadRecord for a layout in which a block is not one piece of a layer."""
        seen: dict[int, LayerPages] = {}
        for name in sorted(caches, key=_by_number):
            tensor = caches[name]
            if tensor.data_ptr() not in seen:  # layers may share a cache
                seen[tensor.data_ptr()] = LayerPages(name, tensor, _block_dim(name, tensor, blocks))
        self.layers: Final = tuple(seen.values())
        self.blocks: Final = blocks

    @property
    def layer_bytes(self) -> tuple[int, ...]:
        return tuple(layer.block_bytes for layer in self.layers)

    @property
    def facts(self) -> str:
        """For the cache class."""
        return "\n".join(layer.facts for layer in self.layers)

    @property
    def layer_range(self) -> str:
        """First and last layer number, for names."""
        numbers = [int(found[0]) for layer in self.layers if (found := _NUMBERS.findall(layer.name))]
        return f"{min(numbers, default=0)}-{max(numbers, default=0)}"

    def read(self, number: int, shape: BlockShape) -> bytearray:
        """The content of a block."""
        content, payload = shape.room()
        at = 0
        for layer in self.layers:
            block = layer.block(number)
            _view(payload[at : at + layer.block_bytes], block).copy_(block)
            at += layer.block_bytes
        return content

    def write(self, number: int, payload: memoryview) -> None:
        """Payload of a verified content, into a block that nobody reads yet."""
        at = 0
        for layer in self.layers:
            block = layer.block(number)
            block.copy_(_view(payload[at : at + layer.block_bytes], block))
            at += layer.block_bytes


def _view(piece: memoryview, block: Tensor) -> Tensor:
    """These bytes as a tensor like `block`. Memory that must not be written to is copied."""
    memory = bytearray(piece) if piece.readonly else piece
    return torch.frombuffer(memory, dtype=block.dtype).view(block.shape)


def _block_dim(name: str, tensor: Tensor, blocks: int) -> int:
    for dim in (0, 1):
        if tensor.dim() > dim and tensor.shape[dim] == blocks:
            return dim
    raise BadRecord(f"the KV cache of {name} has the shape {tuple(tensor.shape)}: where are its {blocks} blocks?")


def _by_number(name: str) -> tuple[list[int], str]:
    return [int(found) for found in _NUMBERS.findall(name)], name
