"""The process in which vLLM computes for a producer: `python -m ndn_infer.vllm.backend.child '{...}'`.

Owns: one AsyncLLM, its requests by number, their output as messages. Imports vLLM. Must not know: names, packets, text,
what an answer is.

The argument is a JSON object of vLLM's engine arguments. Messages (messages.py) come by standard input and go by
standard output; what vLLM prints goes to standard error. When standard input ends, so does the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

OUT: BinaryIO = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # vLLM prints

from vllm import SamplingParams  # noqa: E402
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.v1.engine.async_llm import AsyncLLM  # noqa: E402

from ndn_infer.vllm.backend.engine_class import facts_of  # noqa: E402
from ndn_infer.vllm.backend.messages import MOST_LINE, Begin, Made, Message, Stop, Told, line_of, read  # noqa: E402
from ndn_infer.vllm.backend.processor_time import ProcessorTime  # noqa: E402

CHOOSER = "ndn_infer.vllm.backend.choosing:ChoosesByPosition"


class VllmRequests:
    """Requests of one AsyncLLM."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._running: dict[int, asyncio.Task[None]] = {}
        self._made: list[Made] = []
        self._clock = ProcessorTime(os.getpid())

    def take(self, message: Message) -> None:
        if isinstance(message, Begin):
            self._running[message.number] = asyncio.create_task(self._answer(message))
        elif isinstance(message, Stop) and message.number in self._running:
            self._running[message.number].cancel()

    async def _answer(self, begin: Begin) -> None:
        try:
            await self._outputs(begin)
        except Exception as error:
            self._tell(Made(begin.number, finish=f"error: {error}"[:500]))
        finally:
            del self._running[begin.number]

    async def _outputs(self, begin: Begin) -> None:
        """A task that is cancelled aborts the request: AsyncLLM.generate does that."""
        params = SamplingParams(output_kind=RequestOutputKind.DELTA, **begin.params)
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
        spent, tokens = self._clock.since(), sum(len(one.tokens) for one in made)
        for one in made:
            share = spent * len(one.tokens) / tokens if tokens else 0.0
            OUT.write(line_of(replace(one, spent_s=round(share, 6))))
        OUT.flush()


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


async def serve(options: Mapping[str, Any]) -> None:
    args = AsyncEngineArgs(**options)
    args.logits_processors = [*(args.logits_processors or []), CHOOSER]
    engine = AsyncLLM.from_engine_args(args)
    try:
        reader = asyncio.StreamReader(MOST_LINE)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        OUT.write(line_of(facts_of(engine.vllm_config)))
        OUT.flush()
        requests = VllmRequests(engine)
        watch = asyncio.create_task(_watch(engine))
        while line := await reader.readline():
            requests.take(read(line))
        watch.cancel()
    finally:
        engine.shutdown()


async def _watch(engine: Any) -> None:
    """A vLLM whose core has ended computes nothing any more: this process ends as well, and its parent begins anew."""
    while True:
        await asyncio.sleep(1.0)
        if engine.errored:
            os._exit(1)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
