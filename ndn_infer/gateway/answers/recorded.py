"""Routes whose requests are recorded.

Owns: where a record begins and ends, and whose it is. Must not know: what a request means, who looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from aiohttp import web

from ndn_infer.gateway.answers.book import AnswerBook
from ndn_infer.gateway.answers.record import SeenAnswer
from ndn_infer.gateway.answers.recording import recording_to
from ndn_infer.gateway.exchange import TENANT, Exchange, HttpRoute
from ndn_infer.gateway.refusal import Refusal


def recorded(route: HttpRoute, book: AnswerBook) -> HttpRoute:
    """The same route, whose requests with a body are recorded."""
    if not route.body:
        return route

    async def handler(exchange: Exchange) -> web.StreamResponse:
        with _recording(book, exchange) as record:
            response = await route.handler(exchange)
            status = record.failed_with or response.status
            record.end("done" if status < 400 else "failed", status)
            return response

    return replace(route, handler=handler)


@contextmanager
def _recording(book: AnswerBook, exchange: Exchange) -> Iterator[SeenAnswer]:
    request, model = exchange.request, exchange.document.get("model")
    named = request.headers.get("X-Request-Id", "")[:128]
    record = book.open(owner_of(request), request.path, named, model[:128] if isinstance(model, str) else "")
    try:
        with recording_to(record):
            yield record
    except (asyncio.CancelledError, ConnectionError):
        record.end("left", 499)
        raise
    except Refusal as refusal:
        record.end("failed", refusal.status)
        raise
    except BaseException:
        record.end("failed", 0)
        raise
    finally:
        book.completed()


def owner_of(request: web.Request) -> str:
    """Equal for requests with one key, empty where none is wanted."""
    return request[TENANT].owner
