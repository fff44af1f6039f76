"""The paths of the page: its files, and what it asks beside the API.

Owns: these paths, their headers, server-sent events of what changes. Must not know: what is in the documents.

An event has an id, so a reader that lost its connection goes on where it was; there is no queue of events: what is told
is what changed since, at most every `PACE_S`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from ndn_infer.client import Client
from ndn_infer.gateway.answers.book import AnswerBook
from ndn_infer.gateway.answers.origins import MEANINGS
from ndn_infer.gateway.answers.record import SeenAnswer
from ndn_infer.gateway.answers.recorded import owner_of, recorded
from ndn_infer.gateway.exchange import Exchange, Handler, HttpRoute
from ndn_infer.gateway.page.origin import is_no_name
from ndn_infer.gateway.page.packets import packet_document
from ndn_infer.gateway.page.watching import NetworkWatch
from ndn_infer.gateway.refusal import Refusal, bad

PACE_S: Final = 0.05
ALIVE_S: Final = 10.0
RETRY_MS: Final = 1000
SOON_S: Final = 3.0
"""An answer may be asked for before its request has come."""
MAX_READERS: Final = 64
LONGEST_S: Final = 3600.0
"""Of one stream of events; its reader connects again."""

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
SAFE: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache",
}  # fmt: skip
_EVENTS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip


def paged(paths: Sequence[HttpRoute], client: Client, most: int, forwarder: str, *, keyed: bool) -> list[HttpRoute]:
    """These paths, their last `most` answers recorded for the page, and the page's own; with 0 nothing is recorded, and
    there is no page. `forwarder` is its URI, `keyed`: whether API keys are set."""
    if not most:
        return list(paths)
    book = AnswerBook(client.offers.where.net, most)
    return [*(recorded(path, book) for path in paths), *Page(client, book, forwarder, keyed=keyed).routes()]


class Page:
    """What the page asks of one gateway. `keyed`: whether API keys are set."""

    def __init__(self, client: Client, book: AnswerBook, forwarder: str, *, keyed: bool) -> None:
        self._client = client
        self._book = book
        self._keyed = keyed
        self._watch = NetworkWatch(client, forwarder)
        self._readers = 0

    def routes(self) -> list[HttpRoute]:
        packet = "/network/answers/{answer}/packets/{row:[0-9]{1,4}}/{packet:[0-9]{1,6}}"
        return [
            HttpRoute("GET", "/", _static("index.html"), open=True),
            HttpRoute("GET", "/favicon.ico", _static("icon.svg"), open=True),
            *(HttpRoute("GET", f"/page/{name}", _static(name), open=True) for name in _names()),
            HttpRoute("GET", "/network/about", self._about, open=True),
            HttpRoute("GET", "/network/answers", self._own(self._answers)),
            HttpRoute("GET", "/network/answers/events", self._own(self._list_events)),
            HttpRoute("GET", "/network/answers/{answer}", self._own(self._answer)),
            HttpRoute("GET", "/network/answers/{answer}/events", self._own(self._answer_events)),
            HttpRoute("GET", packet, self._own(self._packet)),
            HttpRoute("GET", "/network/map", self._own(self._map)),
            HttpRoute("GET", "/network/map/events", self._own(self._map_events)),
        ]

    def _own(self, handler: Handler) -> Handler:
        """Without keys, only for whoever came by an address: see origin.py."""

        async def checked(exchange: Exchange) -> web.StreamResponse:
            if not self._keyed and not is_no_name(exchange.request.headers.get("Host", "")):
                words = "open this page by the gateway's address (or localhost), or set keys: see --api-key-file"
                raise Refusal(403, words, code="origin")
            return await handler(exchange)

        return checked

    async def _about(self, exchange: Exchange) -> web.StreamResponse:
        """What the page has to know before it may ask: whether a key is wanted, and what colours mean."""
        return _json({"key_wanted": self._keyed, "origins": MEANINGS})

    # ------------------------------------------------------------ answers

    async def _answers(self, exchange: Exchange) -> web.StreamResponse:
        return _json(self._list(exchange))

    async def _list_events(self, exchange: Exchange) -> web.StreamResponse:
        async def following(seen: int) -> _PageEvent:
            await self._book.change(seen)
            return _PageEvent(self._book.number, self._list(exchange))

        return await self._events(exchange, following, resumes=False)

    def _list(self, exchange: Exchange) -> dict[str, Any]:
        owner = owner_of(exchange.request)
        return {"answers": [record.summary() for record in self._book.of(owner)]}

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        return _json(self._found(exchange).since())

    async def _answer_events(self, exchange: Exchange) -> web.StreamResponse:
        owner, key = self._key(exchange)
        record = await self._book.await_open(owner, key, SOON_S)
        if record is None:
            raise _no_answer()
        return await self._events(exchange, lambda seen: _next_of(record, seen))

    async def _packet(self, exchange: Exchange) -> web.StreamResponse:
        record, match = self._found(exchange), exchange.request.match_info
        packet = record.packet(int(match["row"]), int(match["packet"]))
        if packet is None:
            raise Refusal(404, "this packet is not kept", code="not_found")
        return _json(packet_document(record, packet, self._client.offers.where.validator))

    def _key(self, exchange: Exchange) -> tuple[str, str]:
        owner = owner_of(exchange.request)
        return owner, exchange.request.match_info["answer"][:128]

    def _found(self, exchange: Exchange) -> SeenAnswer:
        record = self._book.find(*self._key(exchange))
        if record is None:
            raise _no_answer()
        return record

    # ------------------------------------------------------------ map

    async def _map(self, exchange: Exchange) -> web.StreamResponse:
        return _json(await self._watch.once())

    async def _map_events(self, exchange: Exchange) -> web.StreamResponse:
        async def following(seen: int) -> _PageEvent:
            document = await self._watch.newer(seen)
            return _PageEvent(self._watch.number, document)

        async with self._watch.watching():
            return await self._events(exchange, following, resumes=False)

    # ------------------------------------------------------------ events

    async def _events(
        self, exchange: Exchange, following: Callable[[int], Awaitable[_PageEvent]], *, resumes: bool = True
    ) -> web.StreamResponse:
        """Tell what `following` gives, one after the other, until it is the last, the reader leaves, or the gateway
        stops."""
        if self._readers >= MAX_READERS:
            raise Refusal(429, "too many pages are open", code="busy", retry_after_s=5)
        self._readers += 1
        response = web.StreamResponse(headers=_EVENTS)
        try:
            await response.prepare(exchange.request)
            await response.write(b"retry: %d\n\n" % RETRY_MS)
            async with asyncio.timeout(LONGEST_S):
                await _tell(response, exchange, following, _last_id(exchange) if resumes else 0)
        except TimeoutError:
            pass
        finally:
            self._readers -= 1
        return response


@dataclass(frozen=True, slots=True)
class _PageEvent:
    """One event: its id, its document, whether it is the last."""

    number: int
    document: dict[str, Any]
    last: bool = False


async def _next_of(record: SeenAnswer, seen: int) -> _PageEvent:
    await record.wait(seen)
    return _PageEvent(record.revision, record.since(seen), record.state != "open")


async def _tell(
    response: web.StreamResponse, exchange: Exchange, following: Callable[[int], Awaitable[_PageEvent]], seen: int
) -> None:
    quiet = 0.0
    while not exchange.state.closing:
        try:
            async with asyncio.timeout(1.0):
                told = await following(seen)
        except TimeoutError:
            quiet += 1.0
            if quiet >= ALIVE_S:
                quiet = 0.0
                await response.write(b": alive\n\n")
            continue
        quiet, seen = 0.0, told.number
        text = json.dumps(told.document, ensure_ascii=False)
        await response.write(f"id: {told.number}\ndata: {text}\n\n".encode())
        if told.last:
            await response.write(b"event: end\ndata: {}\n\n")
            return
        await asyncio.sleep(PACE_S)


def _last_id(exchange: Exchange) -> int:
    given = exchange.request.headers.get("Last-Event-ID", "0")
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise bad("Last-Event-ID is none that this gateway gave", "Last-Event-ID")
    return int(given)


def _no_answer() -> Refusal:
    return Refusal(404, "no such answer is kept: GET /network/answers lists those that are", code="not_found")


def _json(document: dict[str, Any]) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.json_response(document, headers=headers)


def _names() -> list[str]:
    return sorted(one.name for one in _folder().iterdir() if one.name.rpartition(".")[2] in _TYPES)


def _folder() -> Any:
    return files("ndn_infer.gateway.page").joinpath("static")


def _static(name: str) -> Handler:
    content = _folder().joinpath(name).read_bytes()
    headers = {**SAFE, "Content-Type": f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"}

    async def handler(exchange: Exchange) -> web.StreamResponse:
        return web.Response(body=content, headers=headers)

    return handler
