"""Our daemons as Mini-NDN applications: a producer and a consumer, each joined to the NFD of its node.

Owns: how they are started on a Mini-NDN node, and how a script learns that they are ready. Must not know: topologies,
routes. Runs under Mini-NDN's interpreter, which need not have ndn-infer's dependencies: the daemons run under `python`.

    producers = AppManager(ndn, [ndn.net["core"]], InferProducer, python=python, functions="decode", settings=...)
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from minindn.apps.application import Application
from minindn.util import getPopen

from ndn_infer.errors import ChildFailed

READY_TIMEOUT_S: Final = 120.0
COMMAND_TIMEOUT_S: Final = 90.0
LOOK_AGAIN_S: Final = 0.1


class InferFailed(ChildFailed):
    """A daemon or command of ours did not do its work; the message ends with its last words."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=1)


class InferApplication(Application):  # type: ignore[misc]
    """Base: the environment of a node. `settings` are environment variables that make a command one of this node."""

    process: subprocess.Popen[bytes] | None

    def __init__(self, node: Any, *, python: str, settings: Mapping[str, str]) -> None:
        super().__init__(node)
        self.python = python
        self.environment = {
            **settings,
            "XDG_RUNTIME_DIR": f"{self.homeDir}/run",  # an 'ndn-infer up' of the machine is not this node's
            "NDN_CLIENT_TRANSPORT": "",  # client.conf in the node's home names its NFD
            "PYTHONPATH": "",  # Mini-NDN's interpreter may be another one
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-m", "ndn_infer", *arguments]

    def run(self, *arguments: str, timeout: float = COMMAND_TIMEOUT_S) -> dict[str, Any]:
        """Run a command that prints one JSON document. Raises InferFailed."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = getPopen(self.node, self.command(*arguments), self.environment, **pipes)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise InferFailed(f"{self.node.name}: {arguments[0]} took more than {timeout:g} s") from None
        if process.returncode != 0:
            words = (errors or output).decode("utf-8", "replace").strip()
            raise InferFailed(f"{self.node.name}: {arguments[0]} failed: {words[-500:]}")
        try:
            document: dict[str, Any] = json.loads(output)
        except ValueError:
            raise InferFailed(f"{self.node.name}: {arguments[0]} printed no JSON: {output[-500:]!r}") from None
        return document


class InferProducer(InferApplication):
    """`ndn-infer produce` for some functions (comma-separated)."""

    def __init__(
        self, node: Any, *, python: str, functions: str, settings: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        """`options` are further ones of the command (`--set=engine.threads=1`)."""
        super().__init__(node, python=python, settings=settings)
        self.functions = functions
        self.options = options
        self.log = f"produce-{functions.replace(',', '-')}.log"

    def start(self) -> None:
        """Returns at once, as Mini-NDN's applications do; `wait_ready` waits.

        Not by Application.start, which gives no standard input: the producer holds a pipe of ours and ends when it
        closes, however we end. Its log begins anew, so that READY in it is this start's.
        """
        if self.process is None:
            self.logfile = (Path(self.logDir) / self.log).open("wb")
            self.process = getPopen(
                self.node, self.command("produce", *self.options, "--functions", self.functions, "--exit-with-parent"),
                self.environment, stdin=subprocess.PIPE, stdout=self.logfile, stderr=self.logfile,
            )  # fmt: skip

    def stop(self) -> None:
        """SIGTERM, after Mini-NDN's grace SIGKILL. It can be started again."""
        pipe = self.process.stdin if self.process is not None else None
        super().stop()
        if pipe is not None:
            pipe.close()

    def ready(self) -> bool:
        """The producer says that it answers calls. Raises InferFailed when it ended."""
        if not self.running:
            raise self._unready("ended")
        return any(line.startswith("READY") for line in self._said().splitlines())

    def wait_ready(self, timeout: float = READY_TIMEOUT_S) -> None:
        """Until `ready`. Raises InferFailed."""
        deadline = time.monotonic() + timeout
        while not self.ready():
            if time.monotonic() > deadline:
                raise self._unready("was not ready in time")
            time.sleep(LOOK_AGAIN_S)

    def _unready(self, what: str) -> InferFailed:
        return InferFailed(f"{self.node.name}: produce {self.functions} {what}: {self._said().strip()[-500:]}")

    def _said(self) -> str:
        path = Path(self.logDir) / self.log
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        process = self.process
        return process is not None and process.poll() is None

    def kill(self) -> None:
        """SIGKILL: it says nothing. It can be started again."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.stop()

    def counters(self) -> dict[str, dict[str, float]]:
        """Counters of this node's producers, "node/role" -> counter -> number, from their signed status records."""
        found = {}
        for producer in self.run("status", "--json")["producers"]:
            node, role = producer["identity"].split("/")[-2:]
            if node == self.node.name and "counters" in producer:
                found[f"{node}/{role}"] = producer["counters"]
        return found


class InferConsumer(InferApplication):
    """`ndn-infer ask`, whenever the script says so. `start` has nothing to do."""

    def start(self) -> None:
        return

    def ask(self, prompt: str) -> dict[str, Any]:
        """The answer as the JSON document of `ask --json`. Raises InferFailed."""
        return self.run("ask", "--json", "--no-embedded", "--", prompt)
