"""The choices of one request: answers of the network, read side by side, their events in one queue.

Owns: the tasks that read, and their end. Must not know: HTTP, the form of what is told. The queue is bounded: a client
that reads slowly is a reader that reads slowly, down to the producers, who stop decoding for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from ndn_infer.client import Answer
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.errors import BadRecord
from ndn_infer.gateway.answers import recording
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.resume import NOWHERE, CatchUp, ClientPlace

AHEAD: Final = 16
"""Events of all choices that wait for the client."""


class Choices:
    """Reads while its block lasts; at its end, whatever the reason, nobody reads any more and decoding stops."""

    def __init__(
        self,
        answers: Sequence[Answer],
        spend: Callable[[int], None],
        tools: Collection[str] = (),
        places: Mapping[int, ClientPlace] | None = None,
    ) -> None:
        """`spend` is told how many tokens came, whenever some do; `tools` are names of those that may be called;
        `places` says what of each choice the client has."""
        self._answers = answers
        self._spend = spend
        self._places = places or {}
        self.all = [
            GrowingChoice(index, len(answer.prompt_ids), AnswerParts(tools)) for index, answer in enumerate(answers)
        ]
        self._told: asyncio.Queue[ChoiceEvent | Exception] = asyncio.Queue(AHEAD)
        self._tasks: list[asyncio.Task[None]] = []
        self._open = len(answers)

    async def __aenter__(self) -> Self:
        make = asyncio.get_running_loop().create_task
        self._tasks = [make(self._read(*pair)) for pair in zip(self.all, self._answers, strict=True)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def complete(self) -> bool:
        """Whether `next` has given every choice's last event."""
        return not self._open

    async def next(self, patience_s: float | None = None) -> ChoiceEvent | None:
        """The next event of any choice; None when there is none for so long. Raises what reading an answer raises."""
        try:
            async with asyncio.timeout(patience_s):
                told = await self._told.get()
        except TimeoutError:
            return None
        if isinstance(told, Exception):
            raise told
        self._open -= bool(told.event.finish)
        return told

    async def read_all(self) -> None:
        while not self.complete:
            await self.next()

    async def _read(self, choice: GrowingChoice, answer: Answer) -> None:
        catch_up = CatchUp(self._places.get(choice.index, NOWHERE))
        try:
            async with answer:
                async for whole in answer:
                    self._spend(len(whole.ids))
                    recording.took(choice.index, answer, whole)
                    for event, known in catch_up.parts(whole):
                        before = choice.text
                        pieces = choice.take(event, stored=answer.stored)
                        await self._told.put(ChoiceEvent(choice, event, before, pieces, choice.tokens, known))
            if not choice.finish:
                raise BadRecord("an answer ended without saying why")
        except Exception as error:
            await self._told.put(error)
