"""What a field of a record may hold: the bounds that stand in its type.

Owns: the kinds of bounds, and the types that several records share. Must not know: how bounds are checked (codec.py),
what any record is for.

Every field has one, as in `limit: Annotated[int, Between(1, 50)]`; docs/records.md lists them. They are the outermost
ones, for whatever model and configuration. What a model or a configuration narrows is checked by the function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

MAX_IDS: Final = 1 << 18
"""Token ids of one list: 1 MiB as they travel."""
MAX_TEXT: Final = 1 << 20
"""Characters of one text."""
MAX_HITS: Final = 50
"""Passages of one answer."""


@dataclass(frozen=True, slots=True)
class Between:
    """An int or a float from `low` to `high`, both included."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{_number(self.low)} to {_number(self.high)}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """Characters of a str, bytes of a bytes, elements of a tuple."""

    most: int
    least: int = 0

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.most:,}"
        return f"{self.least:,} to {self.most:,}" if self.least else f"at most {self.most:,}"


@dataclass(frozen=True, slots=True)
class Clipped:
    """A str for people. What is longer is cut when a record is built, so that telling what went wrong cannot fail."""

    most: int

    def __str__(self) -> str:
        return f"at most {self.most:,} characters, cut when longer"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(repr(word) for word in self.words)


@dataclass(frozen=True, slots=True)
class Hex:
    """Lower-case hex of so many bytes."""

    size: int

    def __str__(self) -> str:
        return f"hex of {self.size} bytes"


@dataclass(frozen=True, slots=True)
class Packed:
    """A tuple of ints from 0 to 2^32 - 1, which travels as bytes: 4 each, little-endian."""

    most: int

    def __str__(self) -> str:
        return f"at most {self.most:,} token ids, packed"


Bound = Between | AtMost | Clipped | OneOf | Hex | Packed

Count = Annotated[int, Between(0, (1 << 32) - 1)]
Size = Annotated[int, Between(0, (1 << 64) - 1)]
"""Bytes, versions, and whatever else has 64 bits."""
TokenId = Annotated[int, Between(0, (1 << 32) - 1)]
TokenCount = Annotated[int, Between(0, MAX_IDS)]
"""Of one sequence."""
Amount = Annotated[float, Between(0, 1e15)]
Ids = Annotated[tuple[int, ...], Packed(MAX_IDS)]
Label = Annotated[str, AtMost(128)]
Uri = Annotated[str, AtMost(4096)]
Uris = Annotated[tuple[Uri, ...], AtMost(8)]
Digest = Annotated[str, Hex(32)]
Words = Annotated[str, Clipped(512)]


def _number(value: float) -> str:
    """Powers of two as such: nobody reads 18446744073709551615."""
    if isinstance(value, int) and value >= 1 << 16 and (value + 1) & value == 0:
        return f"2^{value.bit_length()} - 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
