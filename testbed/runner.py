"""One run of a testbed: start, the same prompt twice, table and verdict, and everything removed again.

Owns: the time limit, Ctrl-C, what is printed. Must not know: how nodes are made (namespaces.py).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import Timeout
from ndn_infer.testbed import evidence
from ndn_infer.testbed.namespaces import Testbed, check_machine
from ndn_infer.testbed.topology import Topology, TopologyError

FAILED: Final = 1
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `expect` is part of the right answer; `settings` are --set options for all nodes."""

    topology: Topology
    models: Path
    prompt: str
    expect: str
    timeout_s: float
    as_json: bool
    keep: bool
    settings: tuple[str, ...] = ()


def roles_of(topology: Topology) -> dict[str, str]:
    """role -> the node that has it. Raises TopologyError when a role that the story needs is nowhere."""
    roles = {function: node.name for node in topology.nodes for function in node.functions}
    missing = {"tokenize", "prefill", "decode"} - set(roles)
    if missing:
        raise TopologyError(f"{topology.name}: no node has functions={','.join(sorted(missing))}")
    return roles


async def run(plan: Plan) -> int:
    """Exit status: 0 only if the verdict holds. Raises NoTestbed, ChildFailed, Timeout."""
    check_machine()
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
    began = time.monotonic()
    say = _Narrator(began)
    roles = roles_of(plan.topology)
    testbed = Testbed(plan.topology, plan.models, plan.settings, say)
    try:
        async with asyncio.timeout(plan.timeout_s):
            await testbed.start()
            say(f"{plan.topology.consumer} asks: {plan.prompt}")
            first = await testbed.question(plan.prompt)
            say(f"{plan.topology.consumer} asks the same again")
            second = await testbed.question(plan.prompt)
        checks = evidence.judge(first, second, expect=plan.expect, roles=roles)
        document = evidence.document(plan.topology.name, "namespaces", (first, second), checks)
        document.update(notes=testbed.namespaces.notes, total_s=round(time.monotonic() - began, 2))
        print(json.dumps(document) if plan.as_json else _report(first, second, checks), flush=True)
        judged.set()
        if plan.keep:
            await _linger(testbed, stop)
        return 0 if document["holds"] else FAILED
    except TimeoutError:
        raise Timeout(
            f"the testbed was not done after {plan.timeout_s:g} s", hint="--timeout gives it more time; -v says more"
        ) from None
    finally:
        await _in_any_case(testbed.stop())


async def _in_any_case(step: Coroutine[Any, Any, None]) -> None:
    """Through to its end (it is bounded), however often we are cancelled meanwhile."""
    running = asyncio.ensure_future(step)
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _report(first: evidence.Question, second: evidence.Question, checks: list[evidence.Check]) -> str:
    answers = [
        f"  {label} answer after {question.answer.get('total_s')} s, first token {question.answer.get('ttft_s')} s: "
        f"{question.answer.get('text', '').strip()}"
        for label, question in (("1st", first), ("2nd", second))
    ]
    return "\n".join(["", *answers, "", evidence.table(first, second), "", evidence.verdict(checks)])


async def _linger(testbed: Testbed, stop: asyncio.Event) -> None:
    """--keep: let the user look around."""
    consumer = testbed.topology.consumer
    print(
        f"still running, until Ctrl-C. Look inside:\n"
        f"  {' '.join(testbed.namespaces.enter(consumer))} bash\n"
        f"  NDN_CLIENT_TRANSPORT=unix://{testbed.socket(consumer)} nfdc status\n"
        f"  logs and keys: {testbed.grounds.directory}",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    await stop.wait()


@dataclass(frozen=True, slots=True)
class _Narrator:
    """Steps, with seconds since the start, on standard error."""

    began: float

    def __call__(self, text: str) -> None:
        print(f"  {time.monotonic() - self.began:5.1f} s  {text}", file=sys.stderr, flush=True)
