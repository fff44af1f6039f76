"""One process of a testbed node: started inside its namespace, awaited, stopped or killed by pid.

Owns: that no process outlives the run. Must not know: what the process does. Errors go to a log file of its own, so
that a failure can be read afterwards.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.errors import ChildFailed

STOP_GRACE_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.05
LAST_WORDS_BYTES: Final = 4000
OUTPUT_LINE_BYTES: Final = 1 << 22
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


def our_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours as a daemon: it ends when we do, however we end."""
    return [sys.executable, "-m", module, *arguments, "--exit-with-parent"]


@dataclass(slots=True, eq=False)
class NodeProcess:
    """`command`; where it enters a namespace first (`ip netns exec`) it execs, so the pid stays the same.

    A daemon is ready when it prints a line that begins with READY, or, where `ready` is given, when that says so: then
    it is a program of others, which Linux ends when the thread that started it ends.
    """

    title: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool] | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self, timeout_s: float) -> None:
        """Start a daemon and wait until it is ready. Raises ChildFailed with its last words."""
        process = await self._spawn()
        try:
            async with asyncio.timeout(timeout_s):
                if await self._is_ready(process):
                    return
                await process.wait()
        except TimeoutError:
            await self.stop()
            raise ChildFailed(f"{self.title} was not ready after {timeout_s:g} s", status=1) from None
        raise self._failure()

    async def finish(self, timeout_s: float) -> bytes:
        """Run a program of ours to its end; returns its standard output. Raises ChildFailed."""
        process = await self._spawn()
        try:
            async with asyncio.timeout(timeout_s):
                output, _ = await process.communicate()
        except TimeoutError:
            raise ChildFailed(f"{self.title} took more than {timeout_s:g} s", status=1) from None
        finally:
            await self.stop()
        if process.returncode != 0:
            raise self._failure()
        return output

    async def _is_ready(self, process: asyncio.subprocess.Process) -> bool:
        """False when it ended."""
        if self.ready is not None:
            while process.returncode is None:
                if self.ready():
                    return True
                await asyncio.sleep(LOOK_AGAIN_S)
            return False
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"READY"):
                return True
        return False

    async def _spawn(self) -> asyncio.subprocess.Process:
        ours = self.ready is None
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE if ours else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if ours else log, stderr=log, env=dict(self.environment),
                start_new_session=True, limit=OUTPUT_LINE_BYTES, preexec_fn=None if ours else _end_with_us,
            )  # fmt: skip
        return self.process

    def _failure(self) -> ChildFailed:
        status = self.process.returncode if self.process is not None else None
        lines = self.log.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "replace").splitlines()
        words = [line.removeprefix("ndn-infer: ") for line in lines if line.strip()]
        message = next((line for line in words if not line.startswith((" ", "20"))), "it gave no reason")
        return ChildFailed(f"{self.title} failed: {message}", status=status or 1)

    async def kill(self) -> None:
        """SIGKILL, by pid, to this process alone."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM, a grace period, SIGKILL; by pid, to this process alone."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await process.wait()
        except TimeoutError:
            await self.kill()


def _end_with_us() -> None:
    """In the child: SIGTERM when the thread that forked it (the event loop's) ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
