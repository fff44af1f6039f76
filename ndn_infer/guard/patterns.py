"""Patterns in a text that comes in pieces: matches, and from where on one may have begun.

Owns: the reading they are looked for in (folded, white space as one space, case kept), and the search of one pattern in
it. Must not know: which patterns there are, rules' actions. `regex` says of a text that ends early whether a match has
begun; Python's own `re` cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.errors import BadRecord, CallError
from ndn_infer.guard.normal import Unit, fold
from ndn_infer.guard.phrases import Spotted

WINDOW: Final = 1024
"""Characters after which a match that has no end is given out as it stands, and one that only began is given up."""
SETTLED: Final = 16
"""Characters that must follow a match before it is given out, as more of them may belong to it."""
SEARCH_S: Final = 0.5
"""For one search; a pattern that takes longer is not judged by, and nothing is shown."""
TOO_SLOW: Final = "pattern"
"""Code: a pattern of the policy takes too long."""


@contextmanager
def patterns_in_time() -> Iterator[None]:
    """Around all that searches for patterns: a search that takes too long raises CallError."""
    try:
        yield
    except TimeoutError as error:
        raise CallError("a pattern of the policy takes too long", code=TOO_SLOW) from error


class FoldedText:
    """The reading, its last characters only."""

    def __init__(self) -> None:
        self.text = ""
        self.base = 0
        """Place of text[0] in the whole reading."""
        self._places: list[tuple[int, int]] = []

    def push(self, unit: Unit) -> None:
        for char in fold(unit.char):
            if char == " " and (self.text.endswith(" ") or not (self.text or self.base)):
                continue
            self.text += char
            self._places.append((unit.start, unit.end))

    def trim(self) -> None:
        if len(self.text) > 4 * WINDOW:
            cut = len(self.text) - 2 * WINDOW
            self.text, self.base = self.text[cut:], self.base + cut
            del self._places[:cut]

    def starts_at(self, place: int) -> int:
        """Where the character at this place of the whole reading stands."""
        return self._places[place - self.base][0]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where text[start:end] stands in the text that was pushed."""
        return self._places[start][0], self._places[end - 1][1]


def _any(text: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class WantedPattern:
    """`holds` says of a match whether it is one."""

    key: str
    pattern: Any
    holds: Callable[[str], bool] = _any

    @classmethod
    def of(cls, key: str, pattern: str, *, case: bool, holds: Callable[[str], bool] = _any) -> WantedPattern:
        """Raises BadRecord for a pattern that `regex` does not read, or by which the empty text is a match."""
        import regex

        rule = key.partition("\n")[0]
        try:
            made = regex.compile(pattern, regex.V0 | (0 if case else regex.IGNORECASE))
            empty = made.search("", timeout=SEARCH_S) is not None
        except (regex.error, RecursionError, OverflowError, TimeoutError) as error:
            raise BadRecord(f"rule {rule}: pattern: {error}") from error
        if empty:
            raise BadRecord(f"rule {rule}: the pattern matches the empty text")
        return cls(key, made, holds)


@dataclass(slots=True)
class PatternSearch:
    """One pattern in one text. `held` is the place in the reading where a match has begun."""

    wanted: WantedPattern
    held: int | None = None
    _at: int = 0
    _given: set[tuple[int, int]] = field(default_factory=set)

    def look(self, folded: FoldedText, *, last: bool, settled: int = SETTLED) -> Iterator[Spotted]:
        """`settled`: so many characters must follow a match. One that was given out with fewer is looked at again when
        there are more, and given out again where it goes on. Raises TimeoutError."""
        text, base, growing = folded.text, folded.base, list[int]()
        at, self.held = max(self._at - base, 0), None
        while at <= len(text):
            match = self.wanted.pattern.search(text, at, partial=not last, timeout=SEARCH_S)
            if match is None or match.start() == len(text):
                at = len(text)
                break
            start, end = match.span()
            if not match.partial and (earlier := self._begun_before(text, at, start, last)) is not None:
                self._hold(earlier, base)
            if not last and len(text) - start < WINDOW and (match.partial or end > len(text) - settled):
                self._hold(start, base)
                break
            if match.partial:  # too long to wait for
                at = start + 1
                continue
            if self.wanted.holds(text[start:end]) and (base + start, base + end) not in self._given:
                self._given.add((base + start, base + end))
                yield Spotted(self.wanted.key, *folded.place(start, end))
            if not last and end > len(text) - SETTLED and len(text) - start < WINDOW:
                growing.append(base + start)
            at = max(end, start + 1)
        self._at = min([base + at if self.held is None else self.held, *growing])

    def _hold(self, start: int, base: int) -> None:
        self.held = base + start if self.held is None else min(self.held, base + start)

    def _begun_before(self, text: str, at: int, start: int, last: bool) -> int | None:
        """A whole match hides one that began before it and has not ended."""
        if last:
            return None
        for place in range(max(at, len(text) - WINDOW), start):
            if self.wanted.pattern.match(text, place, partial=True, timeout=SEARCH_S) is not None:
                return place
        return None
