"""Phrases, however they are written, in a text that comes in pieces.

Owns: the readings of a text (words, letters alone, each with signs as letters and without; characters as they stand),
and which needles a phrase is in each. Must not know: how characters are folded (normal.py), rules' actions.

| reading | what it is | finds |
|---|---|---|
| words | letters and digits as leet writes them, one space for all else | words; single letters, anything between |
| letters | the same without what is between | long phrases, split and joined in any way; rot13; backwards |
| as it stands | without white space, case kept | base64 at its three alignments, in itself too; hex, base32, binary |
"""

from __future__ import annotations

import base64
import codecs
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from ndn_infer.errors import BadRecord
from ndn_infer.guard.needles import ROOT, Needles
from ndn_infer.guard.normal import SIGNS, Unit, fold, skeleton
from ndn_infer.records.guard import MAX_POLICY

LONG: Final = 8
"""Letters from which a phrase is looked for across words. Shorter ones occur by chance where two words meet."""
_LEAST_ENCODED: Final = 8
"""Characters of base64 that do not depend on what is around the phrase, at the least."""
MOST_DEEPER: Final = 8_000
MOST_ENCODED: Final = 40_000
MOST: Final = MAX_POLICY
"""Characters of a policy's phrases, bytes of UTF-8 or as they are folded, whichever are more. Of more than the first,
base64 of base64, base32 and bits are not looked for, which take 60 states a character; of more than the second, base64
and hex neither, which take 40; more than the third are refused. So a book has two million states at most."""


class Spotted(NamedTuple):
    """`key`: of what was found, in characters `start` to `end` of the text."""

    key: str
    start: int
    end: int


def _letters(text: str) -> str:
    return "".join(char for char in _skeleton_of(text) if char.isalnum())


def _skeleton_of(text: str) -> str:
    return "".join(skeleton(fold(char)) for char in text)


def _words(text: str) -> str:
    return " ".join("".join(char if char.isalnum() else " " for char in _skeleton_of(text)).split())


def encoded_forms(phrase: str) -> Iterator[str]:
    """The middle part of its base64 at each alignment, and its hex."""
    for said in {phrase, phrase.lower(), phrase.upper(), phrase.title(), phrase.capitalize()}:
        wire = said.encode("utf-8")
        yield from _base64(wire)
        if len(wire) * 2 >= _LEAST_ENCODED:
            yield wire.hex()
            yield wire.hex().upper()


def deeper_forms(phrase: str) -> Iterator[str]:
    """Its base64 in base64, its base32, its bits; as it is written and in lower case."""
    for said in {phrase, phrase.lower()}:
        wire = said.encode("utf-8")
        for inner in _base64(wire):
            yield from _base64(inner.encode("ascii"))
        yield from _aligned(wire, base64.b32encode, 5)
        yield "".join(f"{byte:08b}" for byte in wire)


def _base64(wire: bytes) -> Iterator[str]:
    return _aligned(wire, base64.b64encode, 6)


def _aligned(wire: bytes, encode: Callable[[bytes], bytes], bits: int) -> Iterator[str]:
    """What of its encoding, of so many bits a character, is the same whatever is around it, at each alignment."""
    for before in range({5: 5, 6: 3}[bits]):
        whole = encode(b"\0" * before + wire).decode("ascii")
        first, last = -(-before * 8 // bits), (before + len(wire)) * 8 // bits
        if last - first >= _LEAST_ENCODED:
            yield whole[first:last]


class PhraseBook:
    """The phrases of a policy's rules, made once."""

    def __init__(self, phrases: Iterable[tuple[str, str]]) -> None:
        """Pairs of a rule's id and a phrase. Raises BadRecord for more than are looked for."""
        words: dict[str, str] = {}
        letters: dict[str, str] = {}
        standing: dict[str, str] = {}
        wanted = list(phrases)
        size = sum(max(len(phrase.encode("utf-8")), len(_skeleton_of(phrase))) for _, phrase in wanted)
        if size > MOST:
            raise BadRecord(f"phrases of {size} characters together; {MOST} are the most")
        for rule, phrase in wanted:
            self._add(rule, phrase, words, letters)
            encoded = encoded_forms(phrase) if size <= MOST_ENCODED else ()
            for form in chain(encoded, deeper_forms(phrase) if size <= MOST_DEEPER else ()):
                standing.setdefault(form, rule)
        self.words, self.letters, self.standing = Needles(words), Needles(letters), Needles(standing)
        self.states = len(self.words) + len(self.letters) + len(self.standing)

    @staticmethod
    def _add(rule: str, phrase: str, words: dict[str, str], letters: dict[str, str]) -> None:
        if not (said := _words(phrase)):
            return
        words.setdefault(f" {said} ", rule)
        words.setdefault(f" {' '.join(said.replace(' ', ''))} ", rule)
        turned = codecs.encode(phrase, "rot13")
        words.setdefault(f" {_words(turned)} ", rule)
        for form in (_letters(phrase), _letters(turned), _letters(phrase)[::-1]):
            if len(form) >= LONG:
                letters.setdefault(form, rule)


class _Reading:
    """One reading of the text, as far as a needle may have begun in it. `trims`: the first and the last character of a
    needle are what is around it."""

    def __init__(self, needles: Needles[str], trims: bool) -> None:
        self.needles, self.trims = needles, trims
        self._node = ROOT
        self._places: deque[tuple[int, int]] = deque(maxlen=needles.longest + 1)

    def take(self, char: str, start: int, end: int) -> Iterator[Spotted]:
        self._places.append((start, end))
        self._node = self.needles.step(self._node, char)
        for length, rule in self.needles.ends(self._node):
            first, last = (1, 2) if self.trims else (0, 1)
            yield Spotted(rule, self._places[first - length][0], self._places[-last][1])

    @property
    def held(self) -> int | None:
        depth = self.needles.depth(self._node) - (1 if self.trims else 0)
        return self._places[-depth][0] if depth > 0 else None


class _Lines:
    """Words and letters of a text. `signs`: signs are letters, as leet has them; otherwise they are between words."""

    def __init__(self, book: PhraseBook, *, signs: bool) -> None:
        self._words, self._letters = _Reading(book.words, True), _Reading(book.letters, False)
        self._signs = signs
        self._spaced = False
        self.space(0, 0)

    def take(self, skeleton: str, start: int, end: int) -> Iterator[Spotted]:
        for char in skeleton.translate(SIGNS) if self._signs else skeleton:
            if char.isalnum():
                self._spaced = False
                yield from self._words.take(char, start, end)
                yield from self._letters.take(char, start, end)
            else:
                yield from self.space(start, end)

    def space(self, start: int, end: int) -> list[Spotted]:
        if self._spaced:
            return []
        self._spaced = True
        return list(self._words.take(" ", start, end))

    @property
    def held(self) -> Iterator[int | None]:
        yield self._words.held
        yield self._letters.held


class PhraseSearch:
    """One text."""

    def __init__(self, book: PhraseBook) -> None:
        self._lines = (_Lines(book, signs=False), _Lines(book, signs=True))
        self._standing = _Reading(book.standing, False)

    def push(self, unit: Unit) -> Iterator[Spotted]:
        if not unit.char.isspace():
            yield from self._standing.take(unit.char, unit.start, unit.end)
        if folded := fold(unit.char):
            for lines in self._lines:
                yield from lines.take(skeleton(folded), unit.start, unit.end)

    def finish(self, at: int) -> Iterator[Spotted]:
        """Nothing follows."""
        for lines in self._lines:
            yield from lines.space(at, at)

    @property
    def held(self) -> int | None:
        """From where on a phrase may have begun."""
        places = [self._standing.held, *(place for lines in self._lines for place in lines.held)]
        return min((place for place in places if place is not None), default=None)
