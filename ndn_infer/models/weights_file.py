"""The safetensors format, read and written tensor by tensor, without torch.

Owns: header and order of tensors in a .safetensors file. Must not know: what the tensors are for. Written here rather
than through the library so that a full disk is an OSError, memory holds one tensor at a time, and the bytes depend on
nothing but names, shapes and values. Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndn_infer.errors import ModelError

_MAX_HEADER = 100 << 20  # the limit of the reference implementation
_ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype ("F32", "BF16", ...) and shape of one tensor; `offset` counts from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_SIZES[self.dtype]


def read_header(path: Path) -> tuple[int, tuple[TensorSpec, ...]]:
    """(offset of the data, tensors in the order of the file). Raises ModelError when `path` is not such a file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        specs = [TensorSpec(n, e["dtype"], tuple(e["shape"]), e["data_offsets"][0]) for n, e in header.items()]
        end = path.stat().st_size - 8 - length
        for spec in specs:
            if any(type(number) is not int or number < 0 for number in (*spec.shape, spec.offset)):
                raise ValueError("a shape or an offset that is not a count")
            if spec.offset + spec.nbytes > end:
                raise ValueError("a tensor is outside the file")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{path} is not a safetensors file ({error})") from error
    return 8 + length, tuple(sorted(specs, key=lambda spec: spec.offset))


def write(
    path: Path, specs: Sequence[TensorSpec], blobs: Iterable[bytes], on_tensor: Callable[[int], None] | None = None
) -> None:
    """Write tensors in the given order. `blobs` yields the little-endian bytes of each; `on_tensor(count)` after each.

    Raises OSError (disk) and ValueError (a blob of the wrong length).
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for spec in specs:
        header[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.nbytes],
        }
        offset += spec.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts aligned, for memory mapping
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for count, (spec, blob) in enumerate(zip(specs, blobs, strict=True), 1):
            if len(blob) != spec.nbytes:
                raise ValueError(f"{spec.name}: {len(blob)} bytes instead of {spec.nbytes}")
            file.write(blob)
            if on_tensor is not None:
                on_tensor(count)


def merge(parts: Sequence[Path], target: Path, on_tensor: Callable[[int], None] | None = None) -> int:
    """Join the shards of a model into one file, tensors sorted by name. Returns how many tensors there are."""
    found: dict[str, tuple[Path, int, TensorSpec]] = {}
    for part in parts:
        start, specs = read_header(part)
        for spec in specs:
            found[spec.name] = (part, start + spec.offset, spec)
    order = sorted(found)

    def blobs() -> Iterator[bytes]:
        for name in order:
            part, offset, spec = found[name]
            with part.open("rb") as file:
                file.seek(offset)
                yield file.read(spec.nbytes)

    write(target, [found[name][2] for name in order], blobs(), on_tensor)
    return len(order)
