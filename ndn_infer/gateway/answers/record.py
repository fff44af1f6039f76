"""The record of one answer: what was pulled for it, by name, and which packet carried which token.

Owns: rows (one a name), packets and tokens of one request, and what is new since a revision. Must not know: HTTP, who
may look, how packets come.

Everything has the revision at which it changed last, so a reader needs no queue: it asks for what is newer than what it
has, however long it was away. Times are clock.monotonic; documents have milliseconds since the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer import clock, ndn
from ndn_infer.gateway.answers.names import base_of, name_document
from ndn_infer.gateway.answers.origins import REFUSED, origin_of
from ndn_infer.ndn.name import Name
from ndn_infer.records import TokenEvent
from ndn_infer.security.validator import Validated
from ndn_infer.transport.objects.ledger import Seen

MAX_ROWS: Final = 512
MAX_PACKETS: Final = 8192
MAX_TOKENS: Final = 8192
"""Of one answer; what comes after is counted and not kept."""
MAX_KEPT_BYTES: Final = 4 << 20
MAX_PLACES: Final = 4 * MAX_ROWS


@dataclass(frozen=True, slots=True)
class KeptPacket:
    """One packet of a row. `number` is its segment, or its place in the row; `wire` is b"" for what came whole."""

    number: int
    uri: str
    wire: bytes
    signed_by: Validated | None
    origin: str
    at: float
    began: float
    revision: int
    refusal: str = ""


@dataclass(slots=True)
class NameRow:
    """One name: `base` without version and segment. `told`: by somebody's word, without a packet at hand."""

    number: int
    kind: str
    base: str
    source: str
    origin: str
    began: float
    at: float
    told: bool = False
    uses: int = 0
    size: int = 0
    key: Name = b""
    signer: str = ""
    rule: str = ""
    refusal: str = ""
    stream: bool = False
    packets: dict[int, KeptPacket] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class KeptToken:
    """The text that one event added to a choice, and where it was: row and packet, -1 where that is not known."""

    choice: int
    text: str
    ids: tuple[int, ...]
    at: float
    row: int
    packet: int
    revision: int


class SeenAnswer:
    """Of one request. `owner` is who may look; `request_id` what its client called it, or empty."""

    def __init__(self, net: Name, identifier: str, owner: str, *, path: str = "", request_id: str = "") -> None:
        self.id, self.owner, self.path, self.request_id = identifier, owner, path, request_id
        self.model, self.state, self.status = "", "open", 0
        self.made_us, self.began = clock.wall_us(), clock.monotonic()
        self.ended = 0.0
        self.failed_with = 0
        """Of a stream that ends with an error: the status that stands for it."""
        self.kept_bytes = 0
        self.revision = 1
        self._net = net
        self._rows: dict[tuple[str, ...], NameRow] = {}
        self._by_number: list[NameRow] = []
        self._tokens: list[KeptToken] = []
        self._streams: dict[str, int] = {}
        self._places: dict[str, tuple[str, bool]] = {}
        self._packets = 0
        self._news: asyncio.Event | None = None

    # ------------------------------------------------------------ what happens

    def seen(self, seen: Seen) -> None:
        """A witness of a ledger."""
        base, segment = self._place(seen.kind, seen.uri)
        origin = REFUSED if seen.refusal else origin_of(seen.kind, seen.source)
        told = not seen.how.wire and not seen.how.size and not seen.refusal
        row = self._row(seen, base, origin, told=told)
        if row is None:
            return
        self.revision += 1
        row.revision, row.at = self.revision, max(row.at, seen.at)
        row.began = min(row.began, seen.how.began or seen.at)
        row.uses += seen.uses if told else 1
        row.size += len(seen.how.wire) or seen.how.size
        row.refusal = seen.refusal or row.refusal
        row.stream = row.stream or (segment is not None and seen.kind == "result")
        if seen.signed_by is not None and seen.signed_by.key_name != row.key:
            row.key = seen.signed_by.key_name
            row.signer, row.rule = ndn.to_uri(seen.signed_by.key_name), seen.signed_by.rule
        if seen.how.wire:
            self._keep(row, seen, segment if row.stream else None, origin)
        self._tell()

    def took(self, choice: int, stream: str, event: TokenEvent) -> None:
        """An event of an answer was read: the next one of the stream of this name."""
        number = self._streams.get(stream, 0)
        self._streams[stream] = number + 1
        if (not event.text and not event.ids) or len(self._tokens) >= MAX_TOKENS:
            return
        base, _ = self._place("result", f"{stream}/seg={number}")
        row = self._rows.get(("result", base, ""))
        self.revision += 1
        at, place = clock.monotonic(), row.number if row is not None else -1
        self._tokens.append(KeptToken(choice, event.text, tuple(event.ids), at, place, number, self.revision))
        self._tell()

    def end(self, state: str, status: int) -> None:
        """`state` is done, failed, or left: its client went away."""
        self.state, self.status, self.ended = state, status, clock.monotonic()
        self.revision += 1
        self._tell()

    def _place(self, kind: str, uri: str) -> tuple[str, int | None]:
        """The base name and the segment, as base_of. Segments of one version have one base: it is found once."""
        above, _, last = uri.rpartition("/")
        number = last.removeprefix("seg=")
        segment = int(number) if number != last and number.isdigit() else None
        key = uri if segment is None else above
        if key not in self._places:
            base, found = base_of(self._net, kind, ndn.from_uri(uri)) if uri else (b"", None)
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[key] = (ndn.to_uri(base) if base else "", found is not None)
        base_uri, segmented = self._places[key]
        return base_uri, segment if segmented else None

    def _row(self, seen: Seen, base: str, origin: str, *, told: bool) -> NameRow | None:
        apart = "refused" if seen.refusal else seen.source if told else ""
        key = (seen.kind, "" if told else base, apart)
        row = self._rows.get(key)
        if row is None and len(self._rows) < MAX_ROWS:
            began = seen.how.began or seen.at
            row = NameRow(len(self._by_number), seen.kind, base, seen.source, origin, began, seen.at, told)
            self._rows[key] = row
            self._by_number.append(row)
        return row

    def _keep(self, row: NameRow, seen: Seen, segment: int | None, origin: str) -> None:
        number = len(row.packets) if segment is None else segment
        full = self._packets >= MAX_PACKETS or self.kept_bytes + len(seen.how.wire) > MAX_KEPT_BYTES
        if full or number in row.packets:
            return
        self._packets += 1
        self.kept_bytes += len(seen.how.wire)
        row.packets[number] = KeptPacket(
            number, seen.uri, seen.how.wire, seen.signed_by, origin, seen.at, seen.how.began or seen.at, self.revision,
            seen.refusal,
        )  # fmt: skip

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    # ------------------------------------------------------------ who looks

    async def wait(self, revision: int) -> None:
        """Until there is something newer."""
        while self.revision <= revision:
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()

    def packet(self, row: int, number: int) -> KeptPacket | None:
        return self._by_number[row].packets.get(number) if 0 <= row < len(self._by_number) else None

    def summary(self) -> dict[str, Any]:
        ended = self.ended or clock.monotonic()
        return {
            "id": self.id, "request_id": self.request_id, "path": self.path, "model": self.model,
            "created": self.made_us // 1_000_000, "state": self.state, "status": self.status,
            "duration_ms": round((ended - self.began) * 1000, 1), "names": len(self._by_number),
            "tokens": len(self._tokens), "revision": self.revision,
        }  # fmt: skip

    def since(self, revision: int = 0) -> dict[str, Any]:
        """What is newer, as a document: rows that changed, with the packets and tokens that came since."""
        rows = [self._row_document(row, revision) for row in self._by_number if row.revision > revision]
        tokens = [self._token_document(token) for token in _newer(self._tokens, revision)]
        return {**self.summary(), "since": revision, "rows": rows, "new_tokens": tokens}

    def _ms(self, at: float) -> float:
        return round((at - self.began) * 1000, 2)

    def _row_document(self, row: NameRow, revision: int) -> dict[str, Any]:
        packets = list(_newer(list(row.packets.values()), revision))
        return {
            "row": row.number, "kind": "token stream" if row.stream else row.kind, "source": row.source,
            "origin": row.origin, "name": name_document(self._net, row.base), "uri": row.base, "told": row.told,
            "start_ms": self._ms(row.began), "end_ms": self._ms(row.at), "bytes": row.size, "uses": row.uses,
            "signer": row.signer, "rule": row.rule, "refused": row.refusal,
            "new_packets": [self._packet_document(packet) for packet in packets],
        }  # fmt: skip

    def _packet_document(self, packet: KeptPacket) -> dict[str, Any]:
        return {
            "packet": packet.number, "bytes": len(packet.wire), "origin": packet.origin,
            "start_ms": self._ms(packet.began), "at_ms": self._ms(packet.at),
        }  # fmt: skip

    def _token_document(self, token: KeptToken) -> dict[str, Any]:
        return {
            "choice": token.choice, "text": token.text, "ids": list(token.ids), "at_ms": self._ms(token.at),
            "row": token.row, "packet": token.packet,
        }  # fmt: skip


def _newer(kept: list[Any], revision: int) -> Iterator[Any]:
    """Those at the end of an ordered list that came after `revision`."""
    first = len(kept)
    while first and kept[first - 1].revision > revision:
        first -= 1
    return iter(kept[first:])
