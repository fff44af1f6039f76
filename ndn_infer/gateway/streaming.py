"""Answers over HTTP: one document, or server-sent events as tokens come.

Owns: status codes of answers that fail before or after their first byte, keep-alive comments, the end of a stream. Must
not know: the form of a document (documents.py), how requests are read.

A stream ends with a finish reason for each choice and [DONE], or with an error object and [DONE]: never in silence.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ndn_infer.errors import NdnInferError
from ndn_infer.gateway import documents
from ndn_infer.gateway.choices import ChoiceEvent, Choices
from ndn_infer.gateway.refusal import Refusal, refusal_of
from ndn_infer.gateway.service import Prepared

log = logging.getLogger(__name__)

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip


async def answer_whole(prepared: Prepared) -> dict[str, Any]:
    """Raises what reading an answer raises."""
    async with Choices(prepared.answers) as choices:
        await choices.read_all()
        for choice, echo in zip(choices.all, prepared.echoes, strict=True):
            choice.text = echo + choice.text
        return documents.whole(prepared.head, choices.all, documents.usage(choices.all, prepared.asked.n))


async def answer_stream(request: web.Request, prepared: Prepared, keep_alive_s: float) -> web.StreamResponse:
    """Raises what reading an answer raises, as long as no byte was sent: for `keep_alive_s`, or until the first token.
    Afterwards errors are part of the stream."""
    async with Choices(prepared.answers) as choices:
        first = await choices.next(keep_alive_s)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        events = _Events(response, prepared)
        try:
            await events.open()
            await events.tell(first, choices, keep_alive_s)
        except (Refusal, NdnInferError, TimeoutError) as error:
            await events.send(refusal_in_stream(error).document)
        except ConnectionError:
            raise
        except Exception:
            log.exception("a stream failed")
            await events.send(Refusal(500, "internal error", code="internal").document)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def refusal_in_stream(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NdnInferError):
        return refusal_of(error)
    return Refusal(504, "the request took longer than this gateway lets it", code="timeout")


@dataclass(slots=True)
class _Events:
    """What is sent, in order."""

    response: web.StreamResponse
    prepared: Prepared

    async def open(self) -> None:
        for index, echo in enumerate(self.prepared.echoes):
            await self._chunk(documents.opening(self.prepared.head, index, echo))

    async def tell(self, first: ChoiceEvent | None, choices: Choices, keep_alive_s: float) -> None:
        told = first
        while True:
            if told is None:
                await self.response.write(b": keep-alive\n\n")
            else:
                await self._told(told)
            if choices.complete:
                break
            told = await choices.next(keep_alive_s)
        if self.prepared.asked.usage:
            used = documents.usage(choices.all, self.prepared.asked.n)
            await self.send(documents.usage_chunk(self.prepared.head, used))

    async def _told(self, told: ChoiceEvent) -> None:
        head, index = self.prepared.head, told.choice.index
        before = self.prepared.echoes[index] + told.before
        await self._chunk(documents.growing(head, index, told.event, before))
        if told.event.finish:
            await self._chunk(documents.closing(head, index, told.event.finish))

    async def _chunk(self, document: dict[str, Any] | None) -> None:
        if document is not None:
            await self.send({**document, "usage": None} if self.prepared.asked.usage else document)

    async def send(self, document: dict[str, Any]) -> None:
        await self.response.write(b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n")
