"""Answers over HTTP: one document, or server-sent events as tokens come.

Owns: status codes of answers that fail before or after their first byte, keep-alive comments, the end of a stream. Must
not know: the form of what is told (forms/), how requests are read.

A stream ends as its form ends, or with an error: never in silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ndn_infer.errors import NdnInferError
from ndn_infer.gateway.answers import recording
from ndn_infer.gateway.choices import Choices
from ndn_infer.gateway.forms.form import KEEP_ALIVE, AnswerForm, ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent
from ndn_infer.gateway.interruption import taken_from
from ndn_infer.gateway.refusal import Refusal, refusal_of
from ndn_infer.gateway.resume import Following, StreamIds
from ndn_infer.gateway.service import Prepared

log = logging.getLogger(__name__)

STREAM_IDS: Final = web.RequestKey("stream-ids", StreamIds)
"""Where a request asks for ids, or takes a stream up again."""
LAST_WORDS_S: Final = 5.0
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip


async def answer_whole(prepared: Prepared) -> dict[str, Any]:
    """Raises what reading an answer raises."""
    async with Choices(prepared.answers, prepared.spend, prepared.tools) as choices:
        await choices.read_all()
        return prepared.form.whole(choices.all)


async def answer_stream(request: web.Request, prepared: Prepared, keep_alive_s: float) -> web.StreamResponse:
    """Raises what reading an answer raises, as long as no byte was sent: for `keep_alive_s`, or until the first token.
    Afterwards errors are part of the stream."""
    ids = request.get(STREAM_IDS)
    places = None if ids is None else ids.places
    async with Choices(prepared.answers, prepared.spend, prepared.tools, places) as choices:
        first = await choices.next(keep_alive_s)
        response = web.StreamResponse(headers={**_HEADERS, **prepared.headers})
        await response.prepare(request)
        form = prepared.form
        events = _Events(response, form, Following(ids, len(choices.all)))
        try:
            await events.open(choices)
            await events.tell(first, choices, keep_alive_s)
            await events.end()
        except asyncio.CancelledError:
            if (reason := taken_from(request)) is None:
                raise  # nobody reads any more
            await events.fail(reason)
        except Refusal as refusal:
            await events.fail(refusal)
        except NdnInferError as error:
            await events.fail(refusal_of(error))
        except ConnectionError:
            raise
        except Exception:
            log.exception("a stream failed")
            await events.fail(Refusal(500, "internal error", code="internal"))
        return response


@dataclass(slots=True)
class _Events:
    """What is sent, in order."""

    response: web.StreamResponse
    form: AnswerForm
    following: Following

    async def open(self, choices: Choices) -> None:
        opening = list(self.form.opening(choices.all))
        if not self.following.resumed:
            await self.send(opening)

    async def tell(self, first: ChoiceEvent | None, choices: Choices, keep_alive_s: float) -> None:
        told = first
        while True:
            if told is None:
                await self._keep_alive()
            else:
                if told_now := self.following.encoded(told, list(self.form.growing(told))):
                    await self.response.write(told_now)
            if choices.complete:
                break
            told = await choices.next(keep_alive_s)
        await self.send(self.form.closing(choices.all))

    async def fail(self, refusal: Refusal) -> None:
        """The end, too late for a status. A client that does not take it in time is left alone."""
        recording.failed(refusal.status)
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self.send(self.form.failing(refusal))
                await self.end()
        except TimeoutError:
            raise ConnectionResetError("the client reads no more") from None

    async def end(self) -> None:
        await self.send(self.form.ending())
        await self.response.write_eof()

    async def _keep_alive(self) -> None:
        alive = self.form.keep_alive()
        await self.response.write(KEEP_ALIVE if alive is None else alive.encode())

    async def send(self, events: Iterable[ServerEvent]) -> None:
        for event in events:
            await self.response.write(event.encode())
