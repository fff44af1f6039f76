"""One run of a scenario in network namespaces: build, play, result, and everything removed again.

Owns: the time limit, Ctrl-C, what is printed. Must not know: how nodes are made (network.py), what a scenario does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import Timeout, UsageError
from ndn_infer.testbed import nfd, result
from ndn_infer.testbed.namespace_world import NamespaceWorld
from ndn_infer.testbed.namespaces import check_machine
from ndn_infer.testbed.network import NFD, Setup, TopologyNetwork
from ndn_infer.testbed.process_network import in_any_case
from ndn_infer.testbed.process_world import play
from ndn_infer.testbed.scenario import Run, Scenario
from ndn_infer.testbed.topology import Topology

FAILED: Final = 1
INTERRUPTED: Final = 130
BUILD_S: Final = 240.0
"""For building a network: on two cores a producer of SmolLM2 takes about 6 s, a forwarder half a second."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how. `out` gets the result and the logs of all processes."""

    scenario: Scenario
    topology: Topology
    setup: Setup
    seed: int = 0
    timeout_s: float = 0.0
    """Of the scenario itself; 0: its own."""
    as_json: bool = False
    keep: bool = False
    out: Path | None = None


async def run(plan: Plan) -> int:
    """Exit status: 0 only if every claim holds. Raises NoTestbed, ChildFailed, Timeout."""
    check_machine()
    if plan.setup.forwarder == NFD:
        nfd.program()
        if plan.setup.zero_trust:
            raise UsageError(
                "NFD cannot be told to grant routes below the own certificate only",
                hint="its rib rules see who signed a command, not the prefix in it; leave out --forwarder nfd",
            )
    stop, judged = asyncio.Event(), asyncio.Event()
    stop_on_signals(stop)
    work = asyncio.ensure_future(_work(plan, stop, judged))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and not judged.is_set():  # after the verdict Ctrl-C only ends --keep
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            print("interrupted; everything was removed", file=sys.stderr)
            return INTERRUPTED
        return await work
    finally:
        stopping.cancel()


async def _work(plan: Plan, stop: asyncio.Event, judged: asyncio.Event) -> int:
    say = _Narrator(time.monotonic())
    network = TopologyNetwork(plan.topology, plan.setup, say)
    try:
        async with asyncio.timeout(BUILD_S):
            await network.start()
        found, tables = await _play(plan, network, say)
        _write(plan, network, found)
        print(result.dumps(found) if plan.as_json else "\n".join([*tables, *result.report(found)]), flush=True)
        judged.set()
        if plan.keep:
            await _linger(network, stop)
        return 0 if found["holds"] else FAILED
    except TimeoutError:
        raise Timeout(
            f"{plan.scenario.name} was not done in time", hint="--timeout gives it more; -v says more"
        ) from None
    finally:
        await in_any_case(network.stop())


async def _play(plan: Plan, network: TopologyNetwork, say: _Narrator) -> tuple[dict[str, Any], list[str]]:
    """The result document, and tables for people. Raises TimeoutError."""
    world = NamespaceWorld(network, seed=plan.seed)
    for note in network.namespaces.notes:
        world.note(note)
    say(f"{plan.scenario.name}: {plan.scenario.about}")
    commit = await asyncio.to_thread(revision)
    circumstances = partial(Run, commit, plan.setup.forwarder, plan.setup.zero_trust)
    return await play(plan.scenario, world, plan.timeout_s, circumstances), world.record.tables


def _write(plan: Plan, network: TopologyNetwork, found: dict[str, Any]) -> None:
    """Raises UsageError when the folder cannot be written."""
    if plan.out is None:
        return
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        (plan.out / f"{plan.scenario.name}.json").write_text(result.dumps(found) + "\n", "utf-8")
        for log in [*network.grounds.directory.glob("*/*.log"), *network.grounds.directory.glob("*.log")]:
            place = "" if log.parent == network.grounds.directory else f"{log.parent.name}-"
            (plan.out / f"{place}{log.name}").write_bytes(log.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot write to {plan.out}: {error.strerror}") from error


def revision() -> str:
    """The checkout's revision, "" for an installed wheel."""
    here = Path(__file__).resolve().parent
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


async def _linger(network: TopologyNetwork, stop: asyncio.Event) -> None:
    """--keep: let the user look around."""
    node = network.topology.nodes[0].name
    print(
        f"still running, until Ctrl-C. Look inside:\n"
        f"  {' '.join(network.namespaces.enter(node))} bash\n"
        f"  NDN_CLIENT_TRANSPORT=unix://{network.socket(node)} nfdc status\n"
        f"  logs and keys: {network.grounds.directory}",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    await stop.wait()


@dataclass(frozen=True, slots=True)
class _Narrator:
    """Steps, with seconds since the start, on standard error."""

    began: float

    def __call__(self, text: str) -> None:
        print(f"  {time.monotonic() - self.began:5.1f} s  {text}", file=sys.stderr, flush=True)
