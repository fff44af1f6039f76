"""One process of a testbed node: started inside its namespace, awaited by its READY line, stopped by pid.

Owns: that no process outlives the run. Must not know: what the process does. Errors go to a log file of its own, so
that a failure can be read afterwards.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.local.processes import ChildFailed

STOP_GRACE_S: Final = 5.0
LAST_WORDS_BYTES: Final = 4000


@dataclass(slots=True, eq=False)
class NodeProcess:
    """`python -m MODULE ARGUMENTS` behind `prefix` (what enters the namespace; it must exec, so the pid is the same).

    A daemon gets `--exit-with-parent`: it ends when we do, however we end.
    """

    title: str
    prefix: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    module: str = "ndn_infer"
    process: asyncio.subprocess.Process | None = None

    async def start(self, timeout_s: float) -> None:
        """Start a daemon and wait until it is ready. Raises ChildFailed with its last words."""
        process = await self._spawn("--exit-with-parent", stdin=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                async for line in process.stdout:
                    if line.startswith(b"READY"):
                        return
                await process.wait()
        except TimeoutError:
            await self.stop()
            raise ChildFailed(f"{self.title} was not ready after {timeout_s:g} s", status=1) from None
        raise self._failure()

    async def finish(self, timeout_s: float) -> bytes:
        """Run a command to its end; returns its standard output. Raises ChildFailed."""
        process = await self._spawn(stdin=asyncio.subprocess.DEVNULL)
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

    async def _spawn(self, *more: str, stdin: int) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix, sys.executable, "-m", self.module, *self.arguments, *more,
                stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=log, env=dict(self.environment),
                start_new_session=True,
            )  # fmt: skip
        return self.process

    def _failure(self) -> ChildFailed:
        status = self.process.returncode if self.process is not None else None
        lines = self.log.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "replace").splitlines()
        words = [line.removeprefix("ndn-infer: ") for line in lines if line.strip()]
        message = next((line for line in words if not line.startswith((" ", "20"))), "it gave no reason")
        return ChildFailed(f"{self.title} failed: {message}", status=status or 1)

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
            process.kill()
            await process.wait()
