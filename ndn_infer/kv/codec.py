"""KV blocks as bytes: the codecs, each in the canonical layout whatever the engine's own layout is.

Owns: the shape and codec of a model's blocks, tensor <-> object content. Must not know: names, the network, who
computed a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord
from ndn_infer.tensors import RawTensor, decode_tensor, encode_tensor, tensor_bytes, tensor_header

DTYPES: Final = {"bf16": torch.bfloat16, "fp32": torch.float32}
_RAW: Final = {"bf16": "bf16", "fp32": "f32"}
_LARGEST: Final = 127
_SCALE_BYTES: Final = 2
_ROUND: Final = 1.5 * 2**23
"""Added to a small float32 and taken away again, it leaves the nearest integer, of two the even one. torch.round does
the same, and shares it among threads from 2,048 numbers on."""

PIECE: Final = 32_000
"""Numbers at a time: torch shares work among threads from 32,768 on."""

Content = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class KvShape:
    """What every block of a model looks like: [layers, 2, kv_heads, block_tokens, head_dim] of `dtype`, and the form
    (a key of CODECS) in which it travels."""

    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    dtype: str
    implementation: str
    form: str = "raw"

    @property
    def codec(self) -> str:
        """The component of names that says how a block is to be read."""
        prefix = "" if self.form == "raw" else f"{self.form}."
        return f"{prefix}{self.dtype}.{self.implementation}"

    @property
    def exact(self) -> bool:
        """Whether a block that travelled is bit for bit the one that was computed."""
        return self.form == "raw"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.layers, 2, self.kv_heads, self.block_tokens, self.head_dim)

    @property
    def nbytes(self) -> int:
        """Of a block in memory."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class Codec(Protocol):
    """A form of blocks on the wire. `encode` takes a block of `shape.shape` and its dtype; `decode` gives such a one
    back from *verified* content, or raises BadRecord. Layers lie one after the other. A block from content that may be
    written to (a bytearray) can share its memory: whoever decodes it gives it away."""

    def wire(self, shape: KvShape) -> tuple[str, tuple[int, ...]]:
        """dtype and shape of the tensor that every content is; the first dimension is that of layers."""
        ...

    def encode(self, block: Tensor, shape: KvShape) -> bytes: ...

    def place(self, numbers: memoryview, shape: KvShape) -> Tensor:
        """The block that these numbers become, with or without memory of its own. They may be written to."""
        ...

    def fill(self, numbers: memoryview, block: Tensor, shape: KvShape, layers: slice) -> None:
        """These layers of the numbers have their final values: so have those of the block, which `place` gave. Raises
        BadRecord."""
        ...


class Raw:
    """The numbers themselves: what is decoded is bit for bit what was encoded."""

    def wire(self, shape: KvShape) -> tuple[str, tuple[int, ...]]:
        return _RAW[shape.dtype], shape.shape

    def encode(self, block: Tensor, shape: KvShape) -> bytes:
        return encode_tensor(RawTensor(_RAW[shape.dtype], tuple(block.shape), _memory(block)))

    def place(self, numbers: memoryview, shape: KvShape) -> Tensor:
        return torch.frombuffer(numbers, dtype=DTYPES[shape.dtype]).view(shape.shape)

    def fill(self, numbers: memoryview, block: Tensor, shape: KvShape, layers: slice) -> None:
        return  # they are the block


class Int8:
    """Eight bits a number, and a scale for each layer, K or V, head and token: the largest magnitude of its head_dim
    numbers is 127. A row is its numbers, then the scale as float16, so a block takes 66 bytes a row of 64 where bf16
    takes 128. Symmetric: keys after rotation and values lie around zero.

    Both ways go in pieces of PIECE numbers at most, which torch computes in the calling thread. A whole block it would
    spread over all cores: for a tenth of a millisecond it wakes threads that then wait for more, and so takes the cores
    from the forwarder and the engine beside it (decoding during a fetch took up to ten times as long).
    """

    def wire(self, shape: KvShape) -> tuple[str, tuple[int, ...]]:
        return "i8", (*shape.shape[:-1], shape.head_dim + _SCALE_BYTES)

    def encode(self, block: Tensor, shape: KvShape) -> bytes:
        rows = torch.empty(self.wire(shape)[1], dtype=torch.int8)
        wide = [piece.float() for piece in _pieces(block.cpu().reshape(-1, shape.head_dim), shape)]
        peaks = torch.cat([piece.abs().amax(dim=-1, keepdim=True) for piece in wide])
        scales = (peaks / _LARGEST).clamp_(min=2.0**-14).to(torch.float16)
        exact, places = scales.float(), _pieces(rows.view(-1, rows.shape[-1]), shape)
        for piece, scale, narrow, place in zip(
            wide, _pieces(exact, shape), _pieces(scales, shape), places, strict=True
        ):
            values = (piece / scale).add_(_ROUND).sub_(_ROUND).to(torch.int8)
            torch.cat((values, narrow.view(torch.int8)), dim=-1, out=place)
        return encode_tensor(RawTensor("i8", tuple(rows.shape), _memory(rows)))

    def place(self, numbers: memoryview, shape: KvShape) -> Tensor:
        return torch.empty(shape.shape, dtype=DTYPES[shape.dtype])

    def fill(self, numbers: memoryview, block: Tensor, shape: KvShape, layers: slice) -> None:
        wide = shape.head_dim + _SCALE_BYTES
        rows = torch.frombuffer(numbers, dtype=torch.int8).view(shape.layers, -1, wide)[layers].reshape(-1, wide)
        scales = rows[:, shape.head_dim :].contiguous().view(torch.float16).float()
        if not bool(torch.isfinite(scales).all()):
            raise BadRecord("a KV block has a scale that is no number")
        blocks = _pieces(block[layers].view(-1, shape.head_dim), shape)
        for row, scale, out in zip(_pieces(rows, shape), _pieces(scales, shape), blocks, strict=True):
            out.copy_(row[:, : shape.head_dim].float().mul_(scale))


CODECS: Final[dict[str, Codec]] = {"raw": Raw(), "int8": Int8()}
"""Every form, by its name in the configuration."""


def encode_block(block: Tensor, shape: KvShape) -> bytes:
    """Content of a KV object."""
    return CODECS[shape.form].encode(block, shape)


def decode_block(content: Content, shape: KvShape) -> Tensor:
    """The tensor in a *verified* KV object. Raises BadRecord for another dtype or shape. Content that may be written to
    becomes the memory of the tensor."""
    codec = CODECS[shape.form]
    numbers = _writable(_expect(content, *codec.wire(shape)))
    block = codec.place(numbers, shape)
    codec.fill(numbers, block, shape, slice(None))
    return block


def block_bytes(shape: KvShape) -> int:
    """Length of the content of every block of this shape: what is longer or shorter is none, and need not be
    fetched."""
    return tensor_bytes(*CODECS[shape.form].wire(shape))


class ArrivingBlock:
    """A block whose content is being written to `content` from its beginning on."""

    def __init__(self, shape: KvShape) -> None:
        self.content = bytearray(block_bytes(shape))
        self._shape, self._codec = shape, CODECS[shape.form]
        self._header = tensor_header(*self._codec.wire(shape))
        self._numbers = memoryview(self.content)[len(self._header) :]
        self.block = self._codec.place(self._numbers, shape)
        self._layers = 0

    def advance(self, nbytes: int) -> int:
        """The first `nbytes` bytes are there, verified: how many layers of `block` are. Raises BadRecord."""
        if nbytes < len(self._header):
            return 0
        if not self._layers and not self.content.startswith(self._header):
            raise BadRecord("a KV block of another dtype or shape than its name says")
        of_layer = len(self._numbers) // self._shape.layers
        layers = min(nbytes, len(self.content)) - len(self._header)
        layers //= of_layer
        if layers > self._layers:
            self._codec.fill(self._numbers, self.block, self._shape, slice(self._layers, layers))
            self._layers = layers
        return layers


def _expect(content: Content, dtype: str, shape: tuple[int, ...]) -> RawTensor:
    raw = decode_tensor(content)
    if raw.dtype != dtype or raw.shape != shape:
        raise BadRecord(f"a KV block of {dtype} {shape} was promised, {raw.dtype} {raw.shape} delivered")
    return raw


def _writable(raw: RawTensor) -> memoryview:
    """The numbers, as torch wants memory."""
    payload = memoryview(raw.payload)
    return memoryview(bytearray(payload)) if payload.readonly else payload


def _pieces(rows: Tensor, shape: KvShape) -> list[Tensor]:
    step = max(PIECE // (shape.head_dim + _SCALE_BYTES), 1)
    return [rows[first : first + step] for first in range(0, len(rows), step)]


def _memory(block: Tensor) -> memoryview:
    """The bytes of a block, row-major, without a copy where they lie so."""
    return block.contiguous().cpu().view(torch.uint8).numpy().data.cast("B")
