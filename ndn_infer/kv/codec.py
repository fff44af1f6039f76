"""KV blocks as bytes: the codecs, each in the canonical layout whatever the engine's own layout is.

Owns: the format of a model's blocks, tensor <-> object content. Must not know: names, the network, who
computed a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord
from ndn_infer.kv.layout import BlockLayout
from ndn_infer.tensors import RawTensor, decode_tensor, encode_tensor, tensor_bytes, tensor_header
from ndn_infer.torch_tensors import WIRE_DTYPES, raw_of

_LARGEST: Final = 127
_SCALE_BYTES: Final = 2
_ROUND: Final = 1.5 * 2**23
"""Added to a small float32 and taken away again, it leaves the nearest integer, of two the even one. torch.round does
the same, and shares it among threads from 2,048 numbers on."""

PIECE: Final = 32_000
"""Numbers at a time: torch shares work among threads from 32,768 on."""

Content = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How blocks of a model travel: what they are, who computes them, and the form (a key of CODECS)."""

    layout: BlockLayout
    prompts: str
    """EngineClass.prompts: blocks of prompts of equal ones are equal bit for bit."""
    form: str = "raw"

    @property
    def codec(self) -> str:
        """The component of names that says how a block is to be read, and who computes equal ones."""
        return f"{self.form}.{self.prompts}"

    @property
    def exact(self) -> bool:
        """Whether a block that travelled is bit for bit the one that was computed."""
        return self.form == "raw"


class Codec(Protocol):
    """A form of blocks on the wire. `encode` takes a block of `layout.shape` and its dtype; `decode` gives such a one
    back from *verified* content, or raises BadRecord. Layers lie one after the other. A block from content that may be
    written to (a bytearray) can share its memory: whoever decodes it gives it away."""

    def wire(self, layout: BlockLayout) -> tuple[str, tuple[int, ...]]:
        """dtype and shape of the tensor that every content is; the first dimension is that of layers."""
        ...

    def encode(self, block: Tensor, layout: BlockLayout) -> bytes: ...

    def place(self, numbers: memoryview, layout: BlockLayout) -> Tensor:
        """The block that these numbers become, with or without memory of its own. They may be written to."""
        ...

    def fill(self, numbers: memoryview, block: Tensor, layout: BlockLayout, layers: slice) -> None:
        """These layers of the numbers have their final values: so have those of the block, which `place` gave. Raises
        BadRecord."""
        ...


class RawCodec:
    """The numbers themselves: what is decoded is bit for bit what was encoded."""

    def wire(self, layout: BlockLayout) -> tuple[str, tuple[int, ...]]:
        return WIRE_DTYPES[layout.dtype], layout.shape

    def encode(self, block: Tensor, layout: BlockLayout) -> bytes:
        return encode_tensor(raw_of(block))

    def place(self, numbers: memoryview, layout: BlockLayout) -> Tensor:
        return torch.frombuffer(numbers, dtype=layout.dtype).view(layout.shape)

    def fill(self, numbers: memoryview, block: Tensor, layout: BlockLayout, layers: slice) -> None:
        return  # they are the block


class Int8Codec:
    """Eight bits a number, and a scale for each layer, K or V, head and token: the largest magnitude of its head_dim
    numbers is 127. A row is its numbers, then the scale as float16, so a block takes 66 bytes a row of 64 where bf16
    takes 128. Symmetric: keys after rotation and values lie around zero.

    Both ways go in pieces of PIECE numbers at most, which torch computes in the calling thread. A whole block it would
    spread over all cores: for a tenth of a millisecond it wakes threads that then wait for more, and so takes the cores
    from the forwarder and the engine beside it (decoding during a fetch took up to ten times as long).
    """

    def wire(self, layout: BlockLayout) -> tuple[str, tuple[int, ...]]:
        return "i8", (*layout.shape[:-1], layout.head_dim + _SCALE_BYTES)

    def encode(self, block: Tensor, layout: BlockLayout) -> bytes:
        rows = torch.empty(self.wire(layout)[1], dtype=torch.int8)
        wide = [piece.float() for piece in _pieces(block.cpu().reshape(-1, layout.head_dim), layout)]
        peaks = torch.cat([piece.abs().amax(dim=-1, keepdim=True) for piece in wide])
        scales = (peaks / _LARGEST).clamp_(min=2.0**-14).to(torch.float16)
        exact, places = scales.float(), _pieces(rows.view(-1, rows.shape[-1]), layout)
        for piece, scale, narrow, place in zip(
            wide, _pieces(exact, layout), _pieces(scales, layout), places, strict=True
        ):
            values = (piece / scale).add_(_ROUND).sub_(_ROUND).to(torch.int8)
            torch.cat((values, narrow.view(torch.int8)), dim=-1, out=place)
        return encode_tensor(raw_of(rows))

    def place(self, numbers: memoryview, layout: BlockLayout) -> Tensor:
        return torch.empty(layout.shape, dtype=layout.dtype)

    def fill(self, numbers: memoryview, block: Tensor, layout: BlockLayout, layers: slice) -> None:
        wide = layout.head_dim + _SCALE_BYTES
        rows = torch.frombuffer(numbers, dtype=torch.int8).view(layout.layers, -1, wide)[layers].reshape(-1, wide)
        scales = rows[:, layout.head_dim :].contiguous().view(torch.float16).float()
        if not bool(torch.isfinite(scales).all()):
            raise BadRecord("a KV block has a scale that is not a number")
        blocks = _pieces(block[layers].view(-1, layout.head_dim), layout)
        for row, scale, out in zip(_pieces(rows, layout), _pieces(scales, layout), blocks, strict=True):
            out.copy_(row[:, : layout.head_dim].float().mul_(scale))


CODECS: Final[dict[str, Codec]] = {"raw": RawCodec(), "int8": Int8Codec()}
"""Every form, by its name in the configuration."""


def encode_block(block: Tensor, fmt: BlockFormat) -> bytes:
    """Content of a KV object."""
    return CODECS[fmt.form].encode(block, fmt.layout)


def decode_block(content: Content, fmt: BlockFormat) -> Tensor:
    """The tensor in a *verified* KV object. Raises BadRecord for another dtype or shape. Content that may be written to
    becomes the memory of the tensor."""
    codec = CODECS[fmt.form]
    numbers = _writable(_expect(content, *codec.wire(fmt.layout)))
    block = codec.place(numbers, fmt.layout)
    codec.fill(numbers, block, fmt.layout, slice(None))
    return block


def block_bytes(fmt: BlockFormat) -> int:
    """Length of the content of every block of this format: what is longer or shorter is none, and need not be
    fetched."""
    return tensor_bytes(*CODECS[fmt.form].wire(fmt.layout))


class ArrivingBlock:
    """A block whose content is being written to `content` from its beginning on."""

    def __init__(self, fmt: BlockFormat) -> None:
        self.content = bytearray(block_bytes(fmt))
        self._layout, self._codec = fmt.layout, CODECS[fmt.form]
        self._header = tensor_header(*self._codec.wire(fmt.layout))
        self._numbers = memoryview(self.content)[len(self._header) :]
        self.block = self._codec.place(self._numbers, fmt.layout)
        self._layers = 0

    def advance(self, nbytes: int) -> int:
        """The first `nbytes` bytes are there, verified: how many layers of `block` are. Raises BadRecord."""
        if nbytes < len(self._header):
            return 0
        if not self._layers and not self.content.startswith(self._header):
            raise BadRecord("a KV block of another dtype or shape than its name says")
        of_layer = len(self._numbers) // self._layout.layers
        layers = min(nbytes, len(self.content)) - len(self._header)
        layers //= of_layer
        if layers > self._layers:
            self._codec.fill(self._numbers, self.block, self._layout, slice(self._layers, layers))
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


def _pieces(rows: Tensor, layout: BlockLayout) -> list[Tensor]:
    step = max(PIECE // (layout.head_dim + _SCALE_BYTES), 1)
    return [rows[first : first + step] for first in range(0, len(rows), step)]
