"""Text as a guard reads it: escapes decoded, look-alikes and forms of letters folded, what cannot be seen left out.

Owns: what one character is folded to, the escapes, and for each folded character the place in the text that it came
from. Must not know: rules. Look-alikes: the table of Unicode's UTS 39 that `confusable-homoglyphs` carries.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final, NamedTuple

_ESCAPE: Final = re.compile(
    r"%(?P<percent>[0-9A-Fa-f]{2})|\\u(?P<u>[0-9A-Fa-f]{4})|\\u\{(?P<braced>[0-9A-Fa-f]{1,6})\}"
    r"|\\x(?P<x>[0-9A-Fa-f]{2})|&#(?P<decimal>[0-9]{1,7});|&#[xX](?P<hexadecimal>[0-9A-Fa-f]{1,6});"
)
_BEGUN: Final = re.compile(
    r"(?:%[0-9A-Fa-f]?|\\(?:u(?:[0-9A-Fa-f]{0,3}|\{[0-9A-Fa-f]{0,6})|x[0-9A-Fa-f]?)?"
    r"|&(?:#(?:[0-9]{0,7}|[xX][0-9A-Fa-f]{0,6}))?)\Z"
)
_LONGEST_ESCAPE: Final = 12
_UNSEEN: Final = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5")
"""Letters by category that show nothing."""
_MORE: Final = {
    "ı": "i", "ſ": "s", "ß": "ss", "ø": "o", "Ø": "O", "đ": "d", "ð": "d", "ł": "l", "Ł": "L", "ɡ": "g", "ɑ": "a",
    "ε": "e", "τ": "t", "η": "n", "ω": "w", "κ": "k", "υ": "u", "α": "a", "ι": "i", "β": "b", "к": "k", "м": "m",
    "т": "t", "н": "h", "в": "b", "п": "n", "г": "r", "и": "n", "я": "r", "ь": "b", "э": "e", "ѵ": "v", "ɐ": "a",
    "ǝ": "e", "ʇ": "t", "ɹ": "r", "ʍ": "w", "ʞ": "k", "ɯ": "m", "ƨ": "s", "ƽ": "s", "ʀ": "r", "ɴ": "n", "ɢ": "g",
    "ʜ": "h", "ʟ": "l", "ᴀ": "a", "ʙ": "b", "ᴅ": "d", "ᴇ": "e", "ɪ": "i", "ᴊ": "j", "ᴋ": "k", "ᴍ": "m", "ᴘ": "p",
    "ᴛ": "t",
}  # fmt: skip
_WHITE: Final = "\u2800\u00b7"


class Unit(NamedTuple):
    """A character of the text, and where it is written there."""

    char: str
    start: int
    end: int


class Unescape:
    """Cuts a text that comes in pieces into units. What may be the beginning of an escape waits."""

    def __init__(self) -> None:
        self._tail = ""
        self._at = 0
        self._bytes = b""
        self._bytes_from = 0

    @property
    def held(self) -> int | None:
        """The place of what waits, if anything does."""
        if self._bytes:
            return self._bytes_from
        return self._at if self._tail else None

    def push(self, text: str, *, last: bool) -> Iterator[Unit]:
        text, place = self._tail + text, 0
        begun = None if last else _BEGUN.search(text, max(0, len(text) - _LONGEST_ESCAPE))
        end = len(text) if begun is None else begun.start()
        self._tail = text[end:]
        for match in _ESCAPE.finditer(text, 0, end):
            yield from self._plain(text[place : match.start()])
            yield from self._escaped(match)
            place = match.end()
        yield from self._plain(text[place:end])
        if last:
            yield from self._broken_bytes()

    def _plain(self, text: str) -> Iterator[Unit]:
        if text:
            yield from self._broken_bytes()
        for char in text:
            yield Unit(char, self._at, self._at + 1)
            self._at += 1

    def _escaped(self, match: re.Match[str]) -> Iterator[Unit]:
        start, self._at = self._at, self._at + match.end() - match.start()
        percent = match["percent"]
        if percent is not None:
            yield from self._byte(int(percent, 16), start)
            return
        yield from self._broken_bytes()
        decimal = match["decimal"]
        number = (
            int(decimal) if decimal else int(match["u"] or match["braced"] or match["x"] or match["hexadecimal"], 16)
        )
        yield Unit(chr(number) if number < 0x110000 else "\ufffd", start, self._at)

    def _byte(self, value: int, start: int) -> Iterator[Unit]:
        """UTF-8, byte by byte."""
        if value & 0xC0 != 0x80:
            yield from self._broken_bytes()
            self._bytes_from = start
        self._bytes += bytes((value,))
        try:
            char = self._bytes.decode("utf-8")
        except UnicodeDecodeError:
            if len(self._bytes) >= 4:
                yield from self._broken_bytes()
            return
        self._bytes = b""
        yield Unit(char, self._bytes_from, self._at)

    def _broken_bytes(self) -> Iterator[Unit]:
        if self._bytes:
            self._bytes = b""
            yield Unit("\ufffd", self._bytes_from, self._at)


@cache
def _look_alikes() -> dict[str, str]:
    """Characters beyond ASCII that look like a letter or digit of it."""
    from confusable_homoglyphs import confusables

    found = dict(_MORE)
    for char, likes in confusables.confusables_data.items():
        if len(char) == 1 and not char.isascii():
            for like in likes:
                if len(like["c"]) == 1 and like["c"].isascii() and like["c"].isalnum():
                    found.setdefault(char, like["c"])
    return found


@lru_cache(1 << 14)
def fold(char: str) -> str:
    """What is read in place of a character: "" for what cannot be seen, " " for white space; case is kept."""
    if char.isascii():
        return char if char.isprintable() else " " if char.isspace() else ""
    if char in _WHITE or char.isspace():
        return " "
    alike = _look_alikes()
    if char in alike:
        return alike[char]
    return "".join(_folded(part, alike) for part in unicodedata.normalize("NFKD", char))


def _folded(part: str, alike: dict[str, str]) -> str:
    if part.isascii():
        return part
    if part in _UNSEEN or unicodedata.category(part) in ("Mn", "Me", "Cf", "Cc", "Cs", "Co", "Cn"):
        return ""
    return alike.get(part) or alike.get(part.lower()) or part


def folded(text: str) -> str:
    """A whole text as it is read: escapes decoded, each character folded."""
    units = Unescape()
    return "".join(fold(unit.char) for unit in units.push(text, last=True))


_LEET: Final = str.maketrans(
    {"0": "o", "1": "l", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "i": "l"}
)
SIGNS: Final = str.maketrans({"@": "a", "$": "s", "!": "l", "|": "l", "+": "t", "(": "c", "<": "c", "\u20ac": "e"})
"""What leet writes with signs, which may as well be signs."""


@lru_cache(1 << 14)
def skeleton(folded: str) -> str:
    """Folded characters with digits read as leet means them; i, l and 1, which look alike, are l. Lower case."""
    return folded.casefold().translate(_LEET)
