"""JSON of others as typed values: every field read with a bound, and an error that names it.

Owns: the reading of fields. Must not know: which fields any document has, the JSON itself (plain_json.py).

A field that nobody reads is skipped: newer writers may add some. What is read has its type and its bounds, or BadRecord
is raised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import parse


def read_object(content: bytes, where: str, *, most: int) -> JsonObject:
    """The object in at most `most` bytes. Raises BadRecord: too long, not JSON as plain_json reads it, no object."""
    return JsonObject.of(parse(content, most), where)


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object; `where` is its place in words of the document, for errors."""

    values: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> JsonObject:
        """Raises BadRecord for what is no object."""
        if not isinstance(value, dict):
            raise BadRecord(f"{where} is not an object")
        return cls(value, where)

    def text(self, name: str, most: int, default: str | None = None) -> str:
        """A text of at most `most` characters; without a default it must be there."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or len(value) > most or not _encodes(value):
            raise self._refuse(name, f"a text of at most {most} characters")
        return value

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if type(value) is not int or not low <= value <= high:
            raise self._refuse(name, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refuse(name, "a number")
        if not low <= value <= high or not math.isfinite(value):
            raise self._refuse(name, f"a number from {low} to {high}")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        value = self.values.get(name, default)
        if type(value) is not bool:
            raise self._refuse(name, "true or false")
        return value

    def object(self, name: str) -> JsonObject:
        """The object of this field; an empty one where it is missing."""
        return JsonObject.of(self.values.get(name, {}), f"{self.where}.{name}")

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def objects(self, name: str, most: int) -> list[JsonObject]:
        """A list of at most `most` objects; an empty one where it is missing."""
        return [JsonObject.of(one, f"{self.where}.{name}[{place}]") for place, one in enumerate(self._list(name, most))]

    def texts(self, name: str, most: int, characters: int) -> tuple[str, ...]:
        """A list of at most `most` texts; an empty one where it is missing."""
        found = self._list(name, most)
        if not all(isinstance(one, str) and len(one) <= characters and _encodes(one) for one in found):
            raise self._refuse(name, f"a list of texts of at most {characters} characters")
        return tuple(found)

    def digest(self, name: str, default: str | None = None) -> str:
        """64 lower-case hex digits; or the default."""
        value = self.text(name, 64, default)
        if value != default and (len(value) != 64 or not set(value) <= set("0123456789abcdef")):
            raise self._refuse(name, "64 lower-case hex digits")
        return value

    def scalars(self, name: str, most: int) -> dict[str, str | int | float | bool]:
        """An object of at most `most` texts (1,000 characters), numbers and flags."""
        found = self.object(name).values
        if len(found) > most:
            raise self._refuse(name, f"an object of at most {most} fields")
        for key, value in found.items():
            short = isinstance(value, str) and len(value) <= 1000 and _encodes(value)
            number = isinstance(value, int | float) and abs(value) < 1e15
            if not (short or number) or len(key) > 64 or not _encodes(key):
                raise self._refuse(name, "an object of short texts, numbers and flags")
        return dict(found)

    def _list(self, name: str, most: int) -> list[Any]:
        value = self.values.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise self._refuse(name, f"a list of at most {most}")
        return value

    def _refuse(self, name: str, what: str) -> BadRecord:
        return BadRecord(f"{self.where}.{name} is not {what}")


def _encodes(text: str) -> bool:
    """Whether it is Unicode text: lone surrogates are not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
