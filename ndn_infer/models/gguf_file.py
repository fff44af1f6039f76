"""Reading a GGUF file: metadata and tensors.

Owns: the GGUF container (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) and de-quantising through the
`gguf` package. Must not know: what a tokenizer or a configuration is made of. The container is parsed here because
`gguf.GGUFReader` takes 4 s for the vocabulary alone; this takes 0.1 s. Files are strangers: every length is checked.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ndn_infer.errors import EngineUnavailable, ModelError

if TYPE_CHECKING:
    import numpy as np

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """`shape` in row-major order (GGUF itself counts the other way); `kind` is the number of the quantisation."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufFile:
    """A context manager. `fields` maps keys to Python values, `tensors` names to where they lie."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError when this is not a GGUF file of version 2 or 3, OSError when it cannot be read."""
        self.path = path
        self.fields: dict[str, Any] = {}
        self.tensors: dict[str, GgufTensor] = {}
        with path.open("rb") as file:
            try:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise ModelError(f"{path} is empty") from error
        self._at = 0
        try:
            self._read_header()
        except (struct.error, ValueError, TypeError, OverflowError) as error:
            self._data.close()
            raise ModelError(f"{path} is not a usable GGUF file ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.close()

    def load(self, name: str) -> np.ndarray:
        """The tensor `name` as float32, de-quantised; of a damaged file with inf and nan. Raises ModelError when it is
        missing or beyond the file."""
        import numpy as np

        try:
            from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
        except ImportError as error:
            raise EngineUnavailable("reading GGUF files needs the package gguf", hint="pip install gguf") from error
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{self.path} has no tensor {name}")
        try:
            kind = GGMLQuantizationType(tensor.kind)
            per_block, block_bytes = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"{name} is quantised in a way that the gguf package does not support ({tensor.kind})"
            ) from error
        *rows, width = tensor.shape
        row_bytes = width // per_block * block_bytes
        count = row_bytes * int(np.prod(rows, dtype=np.int64))
        if width % per_block or tensor.offset + count > len(self._data):
            raise ModelError(f"{self.path} ends before the end of {name}: the file is damaged or incomplete")
        raw = np.frombuffer(self._data[tensor.offset : tensor.offset + count], dtype=np.uint8)
        if kind == GGMLQuantizationType.F32:
            return raw.view(np.float32).reshape(tensor.shape)
        if kind == GGMLQuantizationType.F16:
            return raw.view(np.float16).reshape(tensor.shape).astype(np.float32)
        with np.errstate(all="ignore"):  # scales of a damaged file give inf and nan, which whoever converts refuses
            values: np.ndarray = dequantize(raw.reshape(*rows, row_bytes), kind)
        return values.reshape(tensor.shape)

    # ------------------------------------------------------------ the container

    def _read_header(self) -> None:
        if self._data[:4] != b"GGUF":
            raise ValueError("no GGUF magic")
        self._at = 4
        version = self._scalar("I")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        tensor_count, field_count = self._scalar("Q"), self._scalar("Q")
        for _ in range(self._bounded(field_count, 12)):
            key = self._string()
            self.fields[key] = self._value(self._scalar("I"))
        found = [self._tensor() for _ in range(self._bounded(tensor_count, 24))]
        alignment = int(self.fields.get("general.alignment", 32))
        if not 0 < alignment <= 1 << 16:
            raise ValueError("alignment")
        start = -(-self._at // alignment) * alignment
        self.tensors = {t.name: GgufTensor(t.name, t.shape, t.kind, start + t.offset) for t in found}

    def _bounded(self, count: int, least_bytes: int) -> int:
        """`count` items of at least `least_bytes` each must fit into what is left of the file."""
        if count * least_bytes > len(self._data) - self._at:
            raise ValueError("a length beyond the end of the file")
        return count

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        length = self._bounded(self._scalar("Q"), 1)
        text = self._data[self._at : self._at + length].decode("utf-8")
        self._at += length
        return text

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            if depth > 2:
                raise ValueError("arrays too deep")
            item, count = self._scalar("I"), self._scalar("Q")
            if item in _SCALARS:
                code = _SCALARS[item]
                self._bounded(count, struct.calcsize("<" + code))
                values = list(struct.unpack_from(f"<{count}{code}", self._data, self._at))
                self._at += struct.calcsize(f"<{count}{code}")
                return values
            return [self._value(item, depth + 1) for _ in range(self._bounded(count, 8))]
        if kind not in _SCALARS:
            raise ValueError(f"value of unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _tensor(self) -> GgufTensor:
        name = self._string()
        dims = self._scalar("I")
        if not 1 <= dims <= _MAX_DIMS:
            raise ValueError(f"{name} has {dims} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dims))
        return GgufTensor(name, shape[::-1], self._scalar("I"), self._scalar("Q"))
