"""The vLLM process of a producer, as its event loop sees it.

Owns: its start, its messages by answer, its death and a new one. Must not know: vLLM's interfaces (child.py), what an
answer is for, packets.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ndn_infer.errors import EngineUnavailable, ModelError
from ndn_infer.vllm.backend.messages import GONE, MOST_LINE, Begin, EngineFacts, Made, Message, Stop, line_of, read

log = logging.getLogger(__name__)

CHILD: Final = "ndn_infer.vllm.backend.child"
END_S: Final = 20.0
"""So long vLLM may take to end by itself."""
AGAIN_S: Final = (1.0, 5.0, 30.0, 60.0)
"""Pauses before it is started again, the more the sooner it ended."""

OnMade = Callable[[Made], None]


class VllmProcess:
    """`start` before all else; all from one event loop. Callbacks run there."""

    def __init__(self, python: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """`python`: of the environment that has vLLM and this package. `options`: vLLM's engine arguments."""
        self._command = [python, "-m", CHILD, json.dumps(options)]
        self._environment = {**os.environ, **environment}
        self._numbers = itertools.count(1)
        self._listeners: dict[int, OnMade] = {}
        self._child: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[EngineFacts] | None = None
        self.facts: EngineFacts | None = None
        """Of the first start; one that is started again is the same engine."""
        self.up = False
        self.users = 0

    async def start(self) -> EngineFacts:
        """Once vLLM is ready, however many wait for it; anew where it could not be started before. Raises
        EngineUnavailable with what it said last. A `close` for each that succeeded."""
        self.users += 1
        if self._begun is None or self._life is None or self._life.done():
            self._begun = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._begun))
        try:
            return await asyncio.shield(self._begun)
        except BaseException:  # also when this one waits no longer
            await self.close()
            raise

    async def close(self) -> None:
        """It ends with its last user."""
        self.users = max(self.users - 1, 0)
        if self.users or self._life is None:
            return
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)
        self._life = None
        if self._begun is not None:
            self._begun.cancel()

    def begin(self, ids: Sequence[int], params: dict[str, Any], salt: str, on_made: OnMade) -> int:
        """Make an answer; `on_made` hears of it until `finish` says why it ended. Its number."""
        number = next(self._numbers)
        self._listeners[number] = on_made
        if not self._send(Begin(number, tuple(ids), params, salt)):
            asyncio.get_running_loop().call_soon(self._hear, Made(number, finish=GONE))
        return number

    def stop(self, number: int) -> None:
        """Make no more of it, and tell nothing of it any more."""
        if self._listeners.pop(number, None) is not None:
            self._send(Stop(number))

    # ------------------------------------------------------------ the process

    async def _live(self, begun: asyncio.Future[EngineFacts]) -> None:
        """Start it, and start it again when it ends."""
        attempt = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._run(begun)
            except Exception as error:
                if not begun.done():
                    begun.set_exception(error)
                    return
                log.error("vLLM cannot be started again: %s", error)
            finally:
                await self._end()
            if asyncio.get_running_loop().time() - began > AGAIN_S[-1]:
                attempt = 0
            await asyncio.sleep(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])
            attempt += 1

    async def _run(self, begun: asyncio.Future[EngineFacts]) -> None:
        """From its start to its end."""
        try:
            self._child = child = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MOST_LINE,
                env=self._environment,
            )  # fmt: skip
        except OSError as error:
            raise EngineUnavailable(
                f"{self._command[0]} cannot be started ({error.strerror})", hint="engine.vllm_python names a Python"
            ) from error
        assert child.stdout is not None
        while line := await child.stdout.readline():
            self._take(read(line), begun)
        await child.wait()
        if not begun.done():
            raise EngineUnavailable(
                "vLLM did not start; what it said stands above",
                hint="engine.vllm_python names a Python that has vllm and ndn-infer (docs/vllm.md)",
            )
        log.error("vLLM ended with %s; it is started again", child.returncode)

    def _take(self, message: Message, begun: asyncio.Future[EngineFacts]) -> None:
        if isinstance(message, EngineFacts):
            if self.facts is not None and message != self.facts:
                raise ModelError("vLLM is another engine than before: start this producer again")
            self.facts, self.up = message, True
            if not begun.done():
                begun.set_result(message)
        elif isinstance(message, Made):
            self._hear(message)

    def _hear(self, made: Made) -> None:
        listener = self._listeners.get(made.number)
        if made.finish:
            self._listeners.pop(made.number, None)
        if listener is not None:
            try:
                listener(made)
            except Exception:
                log.exception("what vLLM made cannot be told")

    def _send(self, message: Message) -> bool:
        child = self._child
        if not self.up or child is None or child.stdin is None or child.stdin.is_closing():
            return False
        child.stdin.write(line_of(message))
        return True

    async def _end(self) -> None:
        """It is gone, or is to go: its answers end."""
        self.up = False
        child, self._child = self._child, None
        for number in list(self._listeners):
            self._hear(Made(number, finish=GONE))
        if child is None or child.returncode is not None:
            return
        if child.stdin is not None:
            child.stdin.close()
        try:
            await asyncio.wait_for(child.wait(), END_S)
        except (TimeoutError, asyncio.CancelledError):
            child.kill()
            await child.wait()
