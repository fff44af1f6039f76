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

READY_TIMEOUT_S: Final = 120.0
COMMAND_TIMEOUT_S: Final = 90.0
LOOK_AGAIN_S: Final = 0.1


class InferFailed(RuntimeError):
    """A daemon or command of ours did not do its work; the message ends with its last words."""


class InferApplication(Application):  # type: ignore[misc]
    """Base: the environment of a node. `settings` are environment variables that make a command one of this node."""

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
        document: dict[str, Any] = json.loads(output)
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
        """Returns at once, as Mini-NDN's applications do; `wait_ready` waits."""
        super().start(
            self.command("produce", *self.options, "--functions", self.functions),
            logfile=self.log, envDict=self.environment,
        )  # fmt: skip

    def wait_ready(self, timeout: float = READY_TIMEOUT_S) -> None:
        """Until the producer says that it answers calls. Raises InferFailed."""
        path = Path(self.logDir) / self.log
        deadline = time.monotonic() + timeout
        while True:
            text = path.read_text("utf-8", "replace") if path.exists() else ""
            if any(line.startswith("READY") for line in text.splitlines()):
                return
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else "was not ready in time"
                raise InferFailed(f"{self.node.name}: produce {self.functions} {what}: {text.strip()[-500:]}")
            time.sleep(LOOK_AGAIN_S)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

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
