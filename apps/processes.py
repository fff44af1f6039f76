"""Processes of an embedded network: start, wait for READY, restart, stop; none is left behind.

Owns: children and their ends. A child that is told `--exit-with-parent` holds the read end of a pipe of ours: when we
die, however we die, the pipe closes and the child stops by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.errors import NdnInferError

log = logging.getLogger(__name__)

STOP_GRACE_S: Final = 5.0
RESTART_PAUSE_S: Final = 0.2
STABLE_S: Final = 20.0
"""One that lived so long is started again at once, when it dies; others after ever longer pauses."""
MAX_RESTART_PAUSE_S: Final = 30.0


class ChildFailed(NdnInferError):
    """A process of the network ended before it was ready; carries its own last words and exit status."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = status if 0 < status < 126 else 1


@dataclass(slots=True, eq=False)
class Child:
    """One process running `ndn-infer ARGUMENTS`. `ready` holds its READY line once it printed one."""

    title: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    ready: str = ""
    restarts: int = 0
    _errors: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, timeout_s: float = 300.0) -> None:
        """Start it and wait until it is ready. Raises ChildFailed with the child's last words."""
        self.ready = ""
        self._errors.clear()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ndn_infer", *self.arguments, "--exit-with-parent",
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
        words = [line.removeprefix("ndn-infer: ") for line in self._errors if line.strip()]
        message = next((line for line in words if not line.startswith((" ", "20"))), "it gave no reason")
        hint = next((line.strip() for line in words if line.startswith("  ")), "")
        return ChildFailed(f"{self.title} did not start: {message}", status=status or 1, hint=hint)

    async def _read_output(self, is_ready: asyncio.Event) -> None:
        assert self.process is not None and self.process.stdout is not None
        async for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            if text.startswith("READY"):
                self.ready = text
                is_ready.set()

    async def _read_errors(self) -> None:
        assert self.process is not None and self.process.stderr is not None
        async for line in self.process.stderr:
            text = line.decode("utf-8", "replace").rstrip()
            self._errors.append(text)
            if log.isEnabledFor(logging.INFO) or (self.ready and " W " in text):
                print(f"[{self.title}] {text}", file=sys.stderr)

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
            print(f"{self.title} ended with status {status}; starting it again", file=sys.stderr, flush=True)
            await asyncio.gather(*self._readers, return_exceptions=True)
            pause_s = RESTART_PAUSE_S if loop.time() > started + STABLE_S else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MAX_RESTART_PAUSE_S)
            try:
                await self.start()
                print(f"{self.title} is back", file=sys.stderr, flush=True)
            except ChildFailed as error:
                log.warning("%s", error)


async def start_all(children: Sequence[Child]) -> None:
    """Start them side by side; when one fails the others are stopped and its error is raised."""
    results = await asyncio.gather(*(child.start() for child in children), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        await stop_all(children)
        raise failures[0]


async def stop_all(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children), return_exceptions=True)


def stop_on_signals(stop: asyncio.Event, *, with_parent: bool = False) -> None:
    """Set `stop` on SIGINT, SIGTERM and, with `with_parent`, when standard input closes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), _on_stdin, loop, stop)


def _on_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()
