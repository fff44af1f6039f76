"""The answers that one function is making: their tasks, their number, their places in the queue.

Owns: one task for each answer, which ends with it in every case, how many there may be, and the pace of their events.
Must not know: how tokens
are made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ndn_infer import records
from ndn_infer.errors import Busy, NdnInferError
from ndn_infer.functions.answer_stream import AnswerStream
from ndn_infer.functions.token_events import EventPace
from ndn_infer.records import Progress
from ndn_infer.transport.calls.failures import code_of

log = logging.getLogger(__name__)

QUEUED = "queued"
AT_ONCE = 2
"""So many answers are begun before anybody asked for a token of them: that saves their readers a round trip."""


class OpenAnswers:
    """At most `limit`, those that nobody reads at the moment included."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: dict[AnswerStream, asyncio.Task[None]] = {}
        self._flowing: set[object] = set()
        self._behind: set[AnswerStream] = set()
        """Before which others waited when they were taken on."""

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def queued(self) -> int:
        """Answers whose prompt is not begun, and for which somebody waits."""
        return sum(answer.progress().state == QUEUED and answer.awaited for answer in self._tasks)

    @property
    def in_work(self) -> int:
        """Answers whose prompt is begun."""
        return sum(answer.progress().state != QUEUED for answer in self._tasks)

    def crowded(self) -> bool:
        """Whether several are in work for somebody."""
        return sum(not answer.away for answer in self._tasks) > 1

    def tokens_before(self) -> int:
        """Tokens of prompts that are not begun, and for which somebody waits."""
        waiting = (answer for answer in self._tasks if answer.progress().state == QUEUED and answer.awaited)
        return sum(len(answer.request.prompt) for answer in waiting)

    def pace(self, event_ms: int) -> EventPace:
        """For the events of a new answer, beside those that flow; `event_ms` as producer.event_ms."""
        return EventPace(event_ms / 1000, self._flowing)

    async def wait_wanted(self, answer: AnswerStream) -> None:
        """Where others are in work, or were before it, an answer is begun when somebody reads it: whoever only asks, or
        heard that others are before, and went elsewhere, costs no compute."""
        if len(self._tasks) > AT_ONCE or answer in self._behind:
            await answer.wait_reader()

    def admit(self) -> None:
        """Make room for one more: whoever is without a reader for the longest time ends. Raises Busy."""
        if len(self._tasks) < self._limit:
            return
        away = [answer for answer in self._tasks if answer.away and not answer.ended]
        if not away:
            raise Busy(f"{len(self._tasks)} answers are being made here; try again later")
        min(away, key=lambda answer: answer.away_since).leave()

    def start(self, answer: AnswerStream, make: Callable[[], Awaitable[None]]) -> None:
        """Make it: `make` pushes tokens until the answer has ended. Whatever goes wrong ends it with words."""
        if self.queued:
            self._behind.add(answer)
        task = asyncio.get_running_loop().create_task(self._make(answer, make))
        self._tasks[answer] = task
        answer.on_left = task.cancel
        answer.out.progress = lambda: records.encode(self._placed(answer))
        task.add_done_callback(lambda _: self._end(answer))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, answer: AnswerStream, make: Callable[[], Awaitable[None]]) -> None:
        try:
            await make()
        except NdnInferError as error:
            log.warning("an answer ends after %d tokens: %s", len(answer.ids), error)
            answer.fail(str(error), code_of(error))
        except Exception as error:
            log.exception("generation failed")
            answer.fail(f"{type(error).__name__} in generate")

    def _end(self, answer: AnswerStream) -> None:
        """The task is over, if only because it was cancelled before it began."""
        del self._tasks[answer]
        self._behind.discard(answer)
        answer.close()

    def _placed(self, answer: AnswerStream) -> Progress:
        progress = answer.progress()
        if progress.state != QUEUED:
            return progress
        place = 0
        for other in self._tasks:
            if other is answer:
                break
            place += other.progress().state == QUEUED
        return Progress(QUEUED, place)
