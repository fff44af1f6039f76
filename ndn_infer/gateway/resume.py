"""Streams that are taken up again: what an event's id says, and what of an answer was told before it.

Owns: the form of ids (`id:` lines, Last-Event-ID), skipping what a client has. Pure. Must not know: HTTP, where answers
come from, forms.

An id says how far a client got in the answer to one request, and which request that was. It opens nothing: the client
sends the request again, with its own key, and the gateway asks the network for that answer anew. Names are those of the
first time, so stores and producers have it, and what they no longer have is computed to the same tokens; any gateway of
the network can do so. Whoever has somebody else's id can do nothing with it that the request alone could not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ndn_infer import clock
from ndn_infer.gateway.forms.form import ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent
from ndn_infer.gateway.refusal import bad
from ndn_infer.records import TokenEvent

MAX_CHOICES: Final = 16
"""Answers of more choices have no ids: each says how far all of them are."""
MAX_ID: Final = 1024
_PLACE: Final = r"\d{1,7}-\d{1,9}-(?:\d{1,4}|f)"
_ID: Final = re.compile(rf"([A-Za-z0-9_-]{{38}})\.({_PLACE}(?:_{_PLACE}){{0,{MAX_CHOICES - 1}}})")
_KEY, _CREATED, _CHECK = 16, 4, 8
"""Bytes of the head of an id."""


@dataclass(frozen=True, slots=True)
class ClientPlace:
    """How far a client is in one choice: tokens and characters that it has, and how many events of those that tell the
    next ones; `finished`: it has everything."""

    tokens: int = 0
    characters: int = 0
    pieces: int = 0
    finished: bool = False

    def __str__(self) -> str:
        return f"{self.tokens}-{self.characters}-{'f' if self.finished else self.pieces}"

    @classmethod
    def read(cls, text: str) -> ClientPlace:
        tokens, characters, pieces = text.split("-")
        return cls(int(tokens), int(characters), 0 if pieces == "f" else int(pieces), pieces == "f")


NOWHERE: Final = ClientPlace()


@dataclass(frozen=True, slots=True)
class StreamIds:
    """Ids of the stream that answers one request. `key` and `created` are what the first answer said of itself (its
    identifier, its time); `places` how far the client is, nothing for a new stream."""

    check: bytes
    key: str
    created: int
    places: Mapping[int, ClientPlace] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, document: Mapping[str, Any], domain: str, last: str) -> StreamIds:
        """Of the request with this JSON at this path, asked in this domain. `last`: Last-Event-ID, "" for none. Raises
        Refusal for one that is no id of an answer to this request."""
        said = json.dumps([path, domain, document], sort_keys=True, ensure_ascii=True).encode()
        check = hashlib.sha256(said).digest()[:_CHECK]
        if not last:
            return cls(check, secrets.token_hex(_KEY), int(clock.wall_s()))
        found = _ID.fullmatch(last) if len(last) <= MAX_ID else None
        head = base64.urlsafe_b64decode(found[1] + "==") if found is not None else b""
        if found is None or head[_KEY + _CREATED :] != check:
            raise bad("Last-Event-ID is no id of an answer to this request", "Last-Event-ID", "last_event_id")
        places = {index: ClientPlace.read(text) for index, text in enumerate(found[2].split("_"))}
        return cls(check, head[:_KEY].hex(), int.from_bytes(head[_KEY : _KEY + _CREATED], "big"), places)

    @property
    def resumed(self) -> bool:
        return bool(self.places)

    def encode(self, places: list[ClientPlace]) -> str:
        head = bytes.fromhex(self.key) + self.created.to_bytes(_CREATED, "big") + self.check
        return f"{base64.urlsafe_b64encode(head).decode().rstrip('=')}.{'_'.join(map(str, places))}"


@dataclass(slots=True)
class CatchUp:
    """What of one choice a client has already, while its events pass by."""

    place: ClientPlace = NOWHERE
    tokens: int = 0
    characters: int = 0

    def parts(self, event: TokenEvent) -> Iterator[tuple[TokenEvent, bool]]:
        """The event, cut where the client broke off, in order; each with whether it was told before."""
        if self.place is NOWHERE:
            yield event, False
            return
        tokens, characters = self.place.tokens - self.tokens, self.place.characters - self.characters
        self.tokens += len(event.ids)
        self.characters += len(event.text)
        if self.place.finished or tokens < 0 or characters < 0 or (tokens == characters == 0):
            yield event, self.place.finished
        elif not event.finish and len(event.ids) <= tokens and len(event.text) <= characters:
            yield event, True
        else:
            yield from _cut(event, tokens, characters)


def _cut(event: TokenEvent, tokens: int, characters: int) -> Iterator[tuple[TokenEvent, bool]]:
    """The first so many tokens and characters, and what is left with the end of the answer."""
    head = replace(
        event,
        ids=event.ids[:tokens],
        text=event.text[:characters],
        logprobs=event.logprobs[:tokens],
        finish="",
        kv=None,
    )
    if head.ids or head.text or head.logprobs:
        yield head, True
    yield (
        replace(event, ids=event.ids[tokens:], text=event.text[characters:], logprobs=event.logprobs[tokens:]),
        False,
    )


class Following:
    """Where the client is, as events go out: what it has is left out, the rest has ids. `ids`: None for a stream
    without."""

    def __init__(self, ids: StreamIds | None, choices: int) -> None:
        self._ids = ids if choices <= MAX_CHOICES else None
        self._places = [ids.places.get(index, NOWHERE) if ids is not None else NOWHERE for index in range(choices)]
        self.resumed = ids is not None and ids.resumed

    def encoded(self, told: ChoiceEvent, pieces: Sequence[ServerEvent]) -> bytes:
        """The bytes of what tells one event; nothing where the client has it."""
        if self._ids is None:
            return b"".join(piece.encode() for piece in pieces)
        index = told.choice.index
        had = self._places[index]
        if told.known:
            return b""
        after = ClientPlace(told.tokens, len(told.before) + len(told.event.text), finished=bool(told.event.finish))
        start, out = had.pieces, []
        for number, piece in enumerate(pieces[start:], start + 1):
            self._places[index] = after if number == len(pieces) else replace(had, pieces=number)
            out.append(piece.encode(self._ids.encode(self._places)))
        self._places[index] = after
        return b"".join(out)
