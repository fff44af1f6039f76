"""The requests of the process in which vLLM computes: begun, stopped, their output as messages.

Owns: which requests run, what of a step is told together, what the end of vLLM's core means for them. Must not know:
how vLLM is started (child.py), names, packets, text. It imports no vLLM: the engine is given to it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ndn_infer.vllm.backend.messages import Begin, Made, Message, Stop, Told, line_of
from ndn_infer.vllm.backend.processor_time import ProcessorTime


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of the requests. `params_of`: vLLM's SamplingParams from their fields, output told in deltas. `write`: to the
    parent. `end`: ends this process."""

    params_of: Callable[[Mapping[str, Any]], Any]
    write: Callable[[bytes], None]
    end: Callable[[], None]


class VllmRequests:
    """Requests of one AsyncLLM."""

    def __init__(self, engine: Any, around: Surroundings) -> None:
        self._engine, self._around = engine, around
        self._running: dict[int, asyncio.Task[None]] = {}
        self._made: list[Made] = []
        self._clock = ProcessorTime(os.getpid(), asyncio.get_running_loop().time())

    def __len__(self) -> int:
        return len(self._running)

    def take(self, message: Message) -> None:
        if isinstance(message, Begin):
            number = message.number
            self._running[number] = task = asyncio.create_task(self._answer(message))
            task.add_done_callback(lambda _: self._running.pop(number, None))  # one that never ran is done as well
        elif isinstance(message, Stop) and message.number in self._running:
            self._running[message.number].cancel()

    async def _answer(self, begin: Begin) -> None:
        """A vLLM whose core has ended fails every request at once. That is no answer: the parent hears that this
        process is gone, and readers go on elsewhere."""
        try:
            await self._outputs(begin)
        except Exception as error:
            if self._engine.errored:
                self._flush()
                self._around.end()
                return
            self._tell(Made(begin.number, finish=f"error: {error}"[:500]))

    async def _outputs(self, begin: Begin) -> None:
        """A task that is cancelled aborts the request: AsyncLLM.generate does that."""
        params = self._around.params_of(begin.params)
        prompt: dict[str, Any] = {"prompt_token_ids": list(begin.ids)}
        if begin.salt:
            prompt["cache_salt"] = begin.salt
        first, count = True, begin.params["logprobs"] or 0
        async for output in self._engine.generate(prompt, params, str(begin.number)):
            answer = output.outputs[0]
            made = Made(
                begin.number, tokens_of(answer.token_ids, answer.logprobs, count), cached=output.num_cached_tokens or 0,
                finish=(answer.finish_reason or "length") if output.finished else "",
            )  # fmt: skip
            if first and made.tokens:
                made = _with_times(made, output)
                if begin.params["prompt_logprobs"] is not None:
                    made = replace(made, scores=scores_of(begin.ids, output.prompt_logprobs, count))
                first = False
            self._tell(made)

    def _tell(self, made: Made) -> None:
        """What one step gave is told together, with its share of the processor time."""
        if not self._made:
            asyncio.get_running_loop().call_soon(self._flush)
        self._made.append(made)

    def _flush(self) -> None:
        made, self._made = self._made, []
        if not made:
            return
        now, ends = asyncio.get_running_loop().time(), any(one.finish for one in made)
        spent, tokens = self._clock.since(now, exact=ends), sum(len(one.tokens) for one in made)
        shares = (spent * len(one.tokens) / tokens if tokens else 0.0 for one in made)
        lines = (line_of(replace(one, spent_s=round(share, 6))) for one, share in zip(made, shares, strict=True))
        self._around.write(b"".join(lines))


def _with_times(made: Made, output: Any) -> Made:
    times = output.metrics
    if times is None or not times.scheduled_ts:
        return made
    return replace(
        made, waited_s=max(times.scheduled_ts - times.queued_ts, 0.0),
        prompt_s=max(times.first_token_ts - times.scheduled_ts, 0.0),
    )  # fmt: skip


def tokens_of(ids: Any, logprobs: Any, count: int) -> tuple[Told, ...]:
    """Of the new tokens, each with the `count` likeliest; `logprobs` is vLLM's, or None where none were wanted."""
    if logprobs is None:
        return tuple((token, 0.0, ()) for token in ids)
    return tuple(_told(token, table, count) for token, table in zip(ids, logprobs, strict=True))


def scores_of(ids: Any, tables: Any, count: int) -> tuple[Told, ...]:
    """Of the prompt's tokens; the first one, which nothing decides, has the log probability 0."""
    return tuple(
        (token, 0.0, ()) if table is None else _told(token, table, count)
        for token, table in zip(ids, tables, strict=True)
    )


def _told(token: int, table: Mapping[int, Any], count: int) -> Told:
    """vLLM's table has the chosen token beside the likeliest ones."""
    top = sorted((-item.logprob, other) for other, item in table.items())[:count]
    return token, table[token].logprob, tuple((other, -minus) for minus, other in top)
