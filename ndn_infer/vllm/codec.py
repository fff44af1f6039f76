"""A block of vLLM's paged cache as bytes: a header that says what it is, then every layer as it lies there.

Owns: this format and its bounds. Pure. Must not know: vLLM, torch, names, the network.

Layout, little-endian: magic `NVB1`, layers u16, two zero bytes, tokens u32, the first 16 bytes of the cache class's
digest, bytes of each layer u32, then the layers one after the other. What a block means only vLLM knows; it is never
cut inside a layer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadRecord

_MAGIC: Final = b"NVB1"
_HEAD: Final = struct.Struct("<4sH2xI16s")
MOST_LAYERS: Final = 4096
MOST_BYTES: Final = 256 << 20
"""Of one block."""


@dataclass(frozen=True, slots=True)
class BlockShape:
    """What every block of an instance is. `layer_bytes`: of each layer, in order; `kind`: 16 bytes, of the cache
    class."""

    tokens: int
    layer_bytes: tuple[int, ...]
    kind: bytes

    def __post_init__(self) -> None:
        """Raises BadRecord for what no block can be."""
        sizes = self.layer_bytes
        if not 0 < len(sizes) <= MOST_LAYERS or not 0 < self.tokens < 1 << 20 or len(self.kind) != 16:
            raise BadRecord("not the shape of a KV block")
        if min(sizes) <= 0 or sum(sizes) > MOST_BYTES:
            raise BadRecord(f"a KV block has {MOST_BYTES} bytes at most")

    @property
    def header(self) -> bytes:
        head = _HEAD.pack(_MAGIC, len(self.layer_bytes), self.tokens, self.kind)
        return head + struct.pack(f"<{len(self.layer_bytes)}I", *self.layer_bytes)

    @property
    def payload_bytes(self) -> int:
        return sum(self.layer_bytes)

    @property
    def content_bytes(self) -> int:
        """Of the whole content."""
        return _HEAD.size + 4 * len(self.layer_bytes) + self.payload_bytes

    def room(self) -> tuple[bytearray, memoryview]:
        """A content whose header is written, and the part of it that the layers go to."""
        header = self.header
        content = bytearray(self.content_bytes)
        content[: len(header)] = header
        return content, memoryview(content)[len(header) :]

    def payload(self, content: bytes | bytearray | memoryview) -> memoryview:
        """The layers of a *verified* content. Raises BadRecord for anything but exactly such a block."""
        header, view = self.header, memoryview(content).cast("B")
        if len(view) != self.content_bytes or bytes(view[: len(header)]) != header:
            raise BadRecord("a KV block of another shape or cache class than its name says")
        return view[len(header) :]

    @classmethod
    def read(cls, content: bytes | bytearray | memoryview) -> BlockShape:
        """What a content says it is; it has exactly that many bytes. Raises BadRecord."""
        view = memoryview(content).cast("B")
        if len(view) < _HEAD.size:
            raise BadRecord("not a KV block")
        magic, layers, tokens, kind = _HEAD.unpack_from(view)
        if magic != _MAGIC or bytes(view[6:8]) != b"\0\0" or len(view) < _HEAD.size + 4 * layers:
            raise BadRecord("not a KV block")
        shape = cls(tokens, struct.unpack_from(f"<{layers}I", view, _HEAD.size), kind)
        shape.payload(view)
        return shape
