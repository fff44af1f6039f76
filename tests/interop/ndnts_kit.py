"""NDNts applications for tests: packages installed outside the checkout, and node processes that are told what to do.

Owns: installing the npm packages of tests/interop/ndnts, a node process (agent.mjs) and its faces. Must not know: what
is tested with them.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from ndn_infer.forwarder.shell.daemon import ForwarderDaemon

SCRIPTS = Path(__file__).parent / "ndnts"
INSTALL_TIMEOUT_S = 240
ANSWER_TIMEOUT_S = 30.0
EXIT_TIMEOUT_S = 10.0
LINE_BYTES = 4 << 20
KINDS = ("unix", "tcp", "udp", "ws")


def missing_tools() -> list[str]:
    return [tool for tool in ("node", "npm") if shutil.which(tool) is None]


def install(cache: Path) -> Path:
    """A folder with the scripts and the packages beside them, below `cache`; one that is there already is used again.

    Raises AssertionError with npm's words when the packages cannot be had.
    """
    files = sorted(path for path in SCRIPTS.iterdir() if path.suffix in (".mjs", ".json"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    ready = cache / f"ndnts-{digest[:16]}"
    if ready.exists():
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="ndnts-", dir=cache))
    try:
        for path in files:
            shutil.copy(path, building)
        _npm_install(building)
        with suppress(OSError):  # somebody else may be at the same, and done
            building.rename(ready)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return ready


def _npm_install(folder: Path) -> None:
    npm = shutil.which("npm")
    assert npm is not None
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error"]
    done = subprocess.run(
        [npm, "install", *flags],
        cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"npm install failed:\n{done.stdout}{done.stderr}"


class AgentFailed(Exception):
    """What NDNts threw."""


class Agent:
    """A node process. `call` names an operation of agent.mjs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._ids = itertools.count(1)
        self._hello: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, asyncio.Future[Any]] = {0: self._hello}
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"], None)
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(AgentFailed(answer["error"]))
            else:
                future.set_result(answer["result"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(AgentFailed("the node process ended"))

    async def has_native_websocket(self) -> bool:
        """Whether NDNts speaks through the runtime's WebSocket, as in browsers, else through the package `ws`."""
        hello = await asyncio.wait_for(self._hello, ANSWER_TIMEOUT_S)
        return bool(hello["webSocket"])

    async def call(self, op: str, **arguments: Any) -> Any:
        """The operation's result. Raises AgentFailed when it threw."""
        assert self.process.stdin is not None
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        return await asyncio.wait_for(future, ANSWER_TIMEOUT_S)

    @asynccontextmanager
    async def face(self, daemon: ForwarderDaemon, kind: str, **options: Any) -> AsyncIterator[AgentFace]:
        """A face to a running forwarder; what either side could not decode fails the test."""
        opened = await self.call("open", **address(daemon, kind), **options)
        face = AgentFace(self, opened["face"])
        try:
            yield face
            assert (await face.call("seen"))["rxerrors"] == []
            assert {one.counters.malformed for one in daemon.core.faces.values()} <= {0}
        finally:
            if not face.closed:
                await face.close()

    async def end(self) -> None:
        """By the end of its input; by pid if that does not do it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), EXIT_TIMEOUT_S)
        except TimeoutError:
            self.kill()
            await self.process.wait()
        await self._reader

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()


class AgentFace:
    """One application of an agent: a logical forwarder with one face to ours."""

    def __init__(self, agent: Agent, number: int) -> None:
        self.agent = agent
        self.number = number
        self.closed = False

    async def call(self, op: str, **arguments: Any) -> Any:
        return await self.agent.call(op, face=self.number, **arguments)

    async def command(self, command: str, **params: Any) -> dict[str, Any]:
        """A management command: code, text, body."""
        answer: dict[str, Any] = await self.call("invoke", command=command, params=params)
        return answer

    async def dataset(self, dataset: str, **filters: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self.call("list", dataset=dataset, filter=filters or None)
        return rows

    async def close(self) -> None:
        self.closed = True
        await self.call("close")


@asynccontextmanager
async def running_agent(folder: Path, *flags: str) -> AsyncIterator[Agent]:
    """`flags` are node's."""
    node = shutil.which("node")
    assert node is not None
    process = await asyncio.create_subprocess_exec(
        node, *flags, "agent.mjs",
        cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES,
    )  # fmt: skip
    agent = Agent(process)
    try:
        yield agent
    finally:
        await agent.end()


def native_websocket_flags() -> list[str]:
    """What makes node have a WebSocket of its own: Node 22 has it anyway."""
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    return ["--experimental-websocket"] if int(told.lstrip("v").partition(".")[0]) < 22 else []


def address(daemon: ForwarderDaemon, kind: str) -> dict[str, Any]:
    """Where a forwarder listens, for agent.mjs."""
    if kind == "unix":
        return {"kind": kind, "path": daemon.options.unix_path}
    host, port = getattr(daemon, f"{kind}_address")
    return {"kind": kind, "host": host, "port": port}


async def until(condition: Callable[[], bool], attempts: int = 2000) -> None:
    """Wait for a fact. Fails when it has not come after all attempts (20 s)."""
    for _ in range(attempts):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")
