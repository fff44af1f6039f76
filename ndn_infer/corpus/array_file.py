"""A file of named arrays: written at once, opened by mapping it into memory.

Owns: the format. Must not know: what the arrays mean. No pickle: a header of JSON says where each array begins.

File: MAGIC, the length of the header (8 bytes), its SHA-256, the header, then each array at a multiple of 64 bytes. The
header holds facts of the caller's and of each array type, shape, place and SHA-256. Arrays of up to CHECKED bytes are
compared with it when the file is opened; of larger ones only the place is, so that opening takes no time: a flipped
byte in those is a wrong number, not a wrong place, and whoever uses numbers as places checks them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndn_infer.errors import DamagedCache, StorageError
from ndn_infer.files import write_at_once

MAGIC: Final = b"NDNIARR1"
CHECKED: Final = 32 << 20
_HEAD: Final = len(MAGIC) + 8 + 32
_MAX_HEADER: Final = 1 << 20
_ALIGNED: Final = 64
_TYPES: Final = frozenset({"float32", "float16", "int8", "uint8", "int32", "int64", "uint64"})
_REBUILD: Final = "delete the file; the index is made again at the next start"

Array = npt.NDArray[Any]


def write_arrays(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Raises StorageError; then nothing is left behind. Arrays may be mapped themselves; those that are contiguous
    are not copied."""
    parts: list[bytes | memoryview] = []
    entries, at = {}, 0
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        entries[name] = {
            "type": str(flat.dtype), "shape": list(flat.shape), "at": at, "sha256": _digest(flat),
        }  # fmt: skip
        parts += [_bytes(flat), bytes(-flat.nbytes % _ALIGNED)]
        at += -(-flat.nbytes // _ALIGNED) * _ALIGNED
    header = json.dumps({"facts": dict(facts), "arrays": entries}).encode()
    head = MAGIC + len(header).to_bytes(8, "big") + hashlib.sha256(header).digest() + header
    write_at_once(path, head, bytes(-len(head) % _ALIGNED), *parts, mode=0o666)


def open_arrays(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The facts and the arrays of a file, read-only. Raises DamagedCache when it is not one that write_arrays wrote,
    StorageError when it cannot be read (also when it does not exist)."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = int.from_bytes(head[len(MAGIC) : len(MAGIC) + 8], "big")
            header = file.read(min(size, _MAX_HEADER))
            start, end = -(-file.tell() // _ALIGNED) * _ALIGNED, os.fstat(file.fileno()).st_size
        if head[: len(MAGIC)] != MAGIC or len(header) != size or hashlib.sha256(header).digest() != head[-32:]:
            raise DamagedCache(f"{path} is damaged: its checksum does not match", hint=_REBUILD)
        said = json.loads(header)
        arrays = {name: _mapped(path, entry, start, end) for name, entry in said["arrays"].items()}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    return said["facts"], arrays


def _mapped(path: Path, entry: Mapping[str, Any], start: int, end: int) -> Array:
    dtype, shape, at = str(entry["type"]), tuple(int(size) for size in entry["shape"]), start + int(entry["at"])
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize if dtype in _TYPES else -1
    if size < 0 or min(shape, default=0) < 0 or at + size > end:
        raise DamagedCache(f"{path} is damaged: it ends early", hint=_REBUILD)
    if not size:
        return np.empty(shape, dtype)
    array = np.memmap(path, dtype, mode="r", offset=at, shape=shape)
    if size <= CHECKED and _digest(array) != entry["sha256"]:
        raise DamagedCache(f"{path} is damaged: its checksum does not match", hint=_REBUILD)
    return array


def _digest(array: Array) -> str:
    """Empty for what is not compared."""
    if array.nbytes > CHECKED:
        return ""
    return hashlib.sha256(_bytes(array)).hexdigest()


def _bytes(array: Array) -> memoryview:
    """Those of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
