"""What an answer says so far: text, and calls of tools.

Owns: both, as they grow. Pure. Must not know: which door asked, tokens, streams.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ndn_infer.hermes import ArgumentsPiece, CallBegun, CallEnded, HermesParser, Piece, TextPiece


@dataclass(slots=True)
class SaidCall:
    """A call; `arguments` is the JSON text of an object, whole when it is `complete`."""

    name: str
    arguments: str = ""
    complete: bool = False


class AnswerParts:
    """`content` is what is no call. Without `tools`, the names of those that may be called, all of it is."""

    def __init__(self, tools: Collection[str] = ()) -> None:
        self._parser = HermesParser(tools) if tools else None
        self.content = ""
        self.calls: list[SaidCall] = []

    @property
    def called(self) -> bool:
        """Whether results are wanted next, if the answer ended of itself."""
        return bool(self.calls) and all(call.complete for call in self.calls)

    def take(self, text: str, *, last: bool) -> tuple[Piece, ...]:
        """What more text adds; `last`: nothing follows."""
        pieces = tuple(self._pieces_of(text, last))
        for piece in pieces:
            self._add(piece)
        return pieces

    def pieces(self) -> Iterator[Piece]:
        """All of it again: the text, then the calls."""
        if self.content:
            yield TextPiece(self.content)
        for index, call in enumerate(self.calls):
            yield CallBegun(index, call.name)
            yield ArgumentsPiece(index, call.arguments)
            if call.complete:
                yield CallEnded(index)

    def _pieces_of(self, text: str, last: bool) -> Iterator[Piece]:
        if self._parser is not None:
            yield from self._parser.push(text)
            yield from self._parser.finish() if last else ()
        elif text:
            yield TextPiece(text)

    def _add(self, piece: Piece) -> None:
        match piece:
            case TextPiece(text):
                self.content += text
            case CallBegun(_, name):
                self.calls.append(SaidCall(name))
            case ArgumentsPiece(index, text):
                self.calls[index].arguments += text
            case CallEnded(index):
                self.calls[index].complete = True
