"""Processes of an embedded network: start, wait for READY, restart, stop; none is left behind.

Owns: children and their ends. Must not know: what they do. A child that is told `--exit-with-parent` holds the read end
of a pipe of ours: when we die, however we die, the pipe closes and the child stops by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.console.logs import logs_as_json
from ndn_infer.errors import ChildFailed
from ndn_infer.local.child_lines import JSON_LOGS, LastWords, shown

log = logging.getLogger(__name__)

STOP_GRACE_S: Final = 5.0
RESTART_PAUSE_S: Final = 0.2
STABLE_S: Final = 20.0
"""One that lived so long is started again at once, when it dies; others after ever longer pauses."""
MAX_RESTART_PAUSE_S: Final = 30.0


@dataclass(slots=True, eq=False)
class Child:
    """One process running `ndn-infer ARGUMENTS`. `ready` holds its READY line once it printed one."""

    title: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    ready: str = ""
    restarts: int = 0
    _words: LastWords = field(default_factory=LastWords)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, timeout_s: float = 300.0) -> None:
        """Start it and wait until it is ready. Raises ChildFailed with the child's last words."""
        self.ready = ""
        self._words.clear()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ndn_infer", *self.arguments, "--exit-with-parent", JSON_LOGS,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment}, start_new_session=True,
        )  # fmt: skip
        is_ready = asyncio.Event()
        self._readers = [
            asyncio.ensure_future(self._read_output(is_ready)),
            asyncio.ensure_future(self._read_errors()),
        ]
        ended = asyncio.ensure_future(self.process.wait())
        ready = asyncio.ensure_future(is_ready.wait())
        try:
            await asyncio.wait({ended, ready}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not is_ready.is_set():
                await self.stop()
                raise self._failure()
        finally:
            ended.cancel()
            ready.cancel()

    def _failure(self) -> ChildFailed:
        status = self.process.returncode if self.process is not None else None
        message, hint = self._words.reason()
        return ChildFailed(f"{self.title} did not start: {message}", status=status or 1, hint=hint)

    async def _read_output(self, is_ready: asyncio.Event) -> None:
        assert self.process is not None and self.process.stdout is not None
        async for text in lines_of(self.process.stdout):
            if text.startswith("READY"):
                self.ready = text
                is_ready.set()

    async def _read_errors(self) -> None:
        assert self.process is not None and self.process.stderr is not None
        as_json = logs_as_json()
        async for line in lines_of(self.process.stderr):
            self._words.add(line)
            text = shown(self.title, line, ready=bool(self.ready), as_json=as_json)
            if text is not None:
                print(text, file=sys.stderr, flush=True)

    async def stop(self) -> None:
        """SIGTERM, a grace period, SIGKILL; by pid, to the child alone."""
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._readers = []

    async def keep(self) -> None:
        """Restart it whenever it dies, with a growing pause."""
        pause_s, loop = RESTART_PAUSE_S, asyncio.get_running_loop()
        while True:
            assert self.process is not None
            started = loop.time()
            status = await self.process.wait()
            self.restarts += 1
            await asyncio.gather(*self._readers, return_exceptions=True)
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            print(f"{self.title} {how} ({self._words.reason()[0]}); starting it again", file=sys.stderr, flush=True)
            pause_s = RESTART_PAUSE_S if loop.time() > started + STABLE_S else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MAX_RESTART_PAUSE_S)
            try:
                await self.start()
                print(f"{self.title} is back", file=sys.stderr, flush=True)
            except ChildFailed as error:
                log.warning("%s", error)


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines without their ends; one beyond the reader's limit comes in pieces."""
    while True:
        try:
            raw = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                yield error.partial.decode("utf-8", "replace").rstrip()
            return
        except asyncio.LimitOverrunError as error:
            raw = await stream.readexactly(error.consumed)
        yield raw.decode("utf-8", "replace").rstrip()


async def start_all(children: Sequence[Child]) -> None:
    """Start them side by side; when one fails the others are stopped and its error is raised."""
    results = await asyncio.gather(*(child.start() for child in children), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        await stop_all(children)
        raise failures[0]


async def stop_all(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children), return_exceptions=True)
