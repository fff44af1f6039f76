"""The text of a growing answer: ids in, whole characters out, up to a stop string.

Owns: incremental decoding, stop strings, and the state of both after an answer that broke off. Must not know: which
tokenizer a model has, streams, events.

Both take time in proportion to the answer, whatever the ids and the stop strings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

_BROKEN: Final = "\ufffd"
MAX_PENDING: Final = 16
"""Tokens that may wait for the rest of a character. One has 4 bytes at most, and a token has at least one of them: so
many without a whole character are no text, whatever follows."""
_KEPT: Final = 12
_HELD: Final = 3
"""Of bytes that are not text the last characters may still become one, `_HELD` at most (decoders either show one U+FFFD
for the bytes of half a character, or one for each). Those lie in the last `_KEPT` tokens: three times the three bytes
of half a character, and the end of one before them."""


class Decoder(Protocol):
    """A tokenizer, as far as it matters here."""

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...

    def shows(self, token: int, skip_special: bool = True) -> bool:
        """Whether an id has a text of its own."""
        ...


class StreamDecoder:
    """Text of a stream of ids, piece by piece: never half a character; all pieces joined equal `decode` of all ids.

    (But for tokenizers that write bytes as tokens of their own and show a run of them as broken, all of it, where one
    is: there text that came before the broken byte stays. transformers' streamer does the same.)
    """

    def __init__(self, tokenizer: Decoder, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        # Tokenizers of the SentencePiece kind treat the first token of a text in another way, so the last token that
        # was shown stays in the window: `_window` holds ids, of which `_shown` characters are out already.
        self._window: list[int] = []
        self._shown = 0
        self._pending = 0

    def push(self, token: int) -> str:
        """The text that `token` completes, "" while a character is incomplete, and for an id without a text."""
        if not self._tokenizer.shows(token, self._skip_special):
            return ""
        self._window.append(token)
        self._pending += 1
        text = self._text()
        if not text.endswith(_BROKEN):
            return self._show(text, self._pending, 0)
        return "" if self._pending < MAX_PENDING else self._show(text, _KEPT, _HELD)

    def push_all(self, tokens: Sequence[int]) -> str:
        """What `push` gives for these, one after the other: decoded together where every byte is text."""
        shown = [token for token in tokens if self._tokenizer.shows(token, self._skip_special)]
        if len(shown) > 1:
            whole = [*self._window, *shown]
            text = self._tokenizer.decode(whole, self._skip_special)
            if _BROKEN not in text:
                last = 1  # tokens of the last character
                while last < len(shown) and self._tokenizer.decode(whole[:-last], self._skip_special).endswith(_BROKEN):
                    last += 1
                self._window = whole
                return self._show(text, last + self._pending * (last == len(shown)), 0)
        return "".join(map(self.push, shown))

    def finish(self) -> str:
        """What was held back: an incomplete character becomes U+FFFD."""
        piece = self._text()[self._shown :]
        self._window, self._shown, self._pending = [], 0, 0
        return piece

    def _text(self) -> str:
        return self._tokenizer.decode(self._window, self._skip_special)

    def _show(self, text: str, keep: int, hold: int) -> str:
        """All but `hold` characters at most that are broken so far; the window is then the last `keep` tokens."""
        self._window = self._window[-keep:]
        rest = self._text()
        while not (text.endswith(_BROKEN * hold) and rest.endswith(_BROKEN * hold)):
            hold -= 1
        piece = text[self._shown : len(text) - hold]
        self._shown, self._pending = len(rest) - hold, keep if hold else 0
        return piece


class StopMatcher:
    """Ends a text before the first stop string, however the text is cut into pieces.

    The first is the one that ends first; of two that end together, the longer.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [_Stop(stop) for stop in stops if stop]
        self._held = ""
        self.stopped_by = ""
        """The stop string that was found."""

    @property
    def stopped(self) -> bool:
        return bool(self.stopped_by)

    def push(self, text: str) -> tuple[str, bool]:
        """(text that may be shown, whether a stop string was found). Text which may be the beginning of a stop string
        is held back; the stop string itself and what follows is dropped."""
        if self.stopped:
            return "", True
        ends = [(end, -len(stop.text), stop.text) for stop in self._stops if (end := stop.push(text))]
        whole, before = self._held + text, len(self._held)
        if ends:
            end, minus_length, self.stopped_by = min(ends)
            self._held = ""
            return whole[: before + end + minus_length], True
        shown = len(whole) - max((stop.matched for stop in self._stops), default=0)
        self._held = whole[shown:]
        return whole[:shown], False

    def finish(self) -> str:
        """The text held back, when the answer ended otherwise."""
        held, self._held = self._held, ""
        return "" if self.stopped else held


class _Stop:
    """One stop string and how much of it has been seen: each character of a text is looked at once (Knuth, Morris and
    Pratt, 1977)."""

    __slots__ = ("_borders", "matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._borders = [0]
        for at in range(1, len(text)):
            self._borders.append(self._next(self._borders[-1], text[at]))

    def push(self, piece: str) -> int:
        """Where in `piece` the string ends that was awaited; 0 when it does not. Not called again after it did."""
        for at, character in enumerate(piece, 1):
            self.matched = self._next(self.matched, character)
            if self.matched == len(self.text):
                return at
        return 0

    def _next(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self.text[matched] == character)


def resume(
    tokenizer: Decoder, stops: Sequence[str], answered: Sequence[int]
) -> tuple[StreamDecoder, StopMatcher]:  # fmt: skip
    """What turns an answer's tokens into text, in the state in which it broke off after `answered`. Of these the end is
    looked at, in which a character or a stop string may have begun."""
    decoder, matcher = StreamDecoder(tokenizer), StopMatcher(stops)
    longest = max(map(len, stops), default=0)
    for token in answered[-(4 * longest + MAX_PENDING) :]:
        matcher.push(decoder.push(token))
    return decoder, matcher
