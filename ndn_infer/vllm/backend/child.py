"""The process in which vLLM computes for a producer: `python -m ndn_infer.vllm.backend.child '{...}'`.

Owns: the start and the end of one AsyncLLM. Imports vLLM. Must not know: what becomes of its requests (requests.py),
names, packets, text, what an answer is.

The argument is a JSON object of vLLM's engine arguments. Messages (messages.py) come by standard input and go by
standard output; what vLLM prints goes to standard error. When standard input ends, so does the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

OUT: BinaryIO = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # vLLM prints

from vllm import SamplingParams  # noqa: E402
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.v1.engine.async_llm import AsyncLLM  # noqa: E402

from ndn_infer.vllm.backend.engine_class import facts_of  # noqa: E402
from ndn_infer.vllm.backend.messages import MOST_LINE, line_of, read  # noqa: E402
from ndn_infer.vllm.backend.requests import Surroundings, VllmRequests  # noqa: E402

CHOOSER = "ndn_infer.vllm.backend.choosing:ChoosesByPosition"


async def serve(options: Mapping[str, Any]) -> None:
    args = AsyncEngineArgs(**options)
    args.logits_processors = [*(args.logits_processors or []), CHOOSER]
    engine = AsyncLLM.from_engine_args(args)
    try:
        reader = asyncio.StreamReader(MOST_LINE)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        _write(line_of(facts_of(engine.vllm_config)))
        requests = VllmRequests(engine, Surroundings(_params_of, _write, _end))
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
            _end()


def _params_of(fields: Mapping[str, Any]) -> Any:
    return SamplingParams(output_kind=RequestOutputKind.DELTA, **fields)


def _write(line: bytes) -> None:
    OUT.write(line)
    OUT.flush()


def _end() -> None:
    os._exit(1)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
