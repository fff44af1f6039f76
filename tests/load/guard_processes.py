"""Answers under a policy over processes: a forwarder, a producer, guards that are killed, stopped and lie.

Owns: these processes, what befalls them, and the count of tokens that were shown without a valid verdict: by a
reckoning of its own, of the verdicts that came and of what the producer is known to have written. Must not know: what
the reader of the product decides by.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer import config as configuration
from ndn_infer.client import Client
from ndn_infer.client.guarding import Guarding
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.registry import ROLES
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.records import ModelRecord, Sampling, TokenEvent
from ndn_infer.records.guard import ALLOW, REDACT, VerdictEvent
from ndn_infer.transport.calls.asking import Answered
from tests.daemons import stop, wait_ready
from tests.guard_play import SECRET
from tests.load.guard_daemons import SUBJECT, script

ROOT: Final = Path(__file__).resolve().parents[2]
OURS: Final = "tests.load.guard_daemons"
MODEL: Final = ModelRecord("scripted", SUBJECT[1], "causal-lm", "LlamaForCausalLM", 512, 49_152)
POLICY: Final = f"""
name = "processes"
hold_back = 8
wait_s = 2
[[rules]]
id = "codename"
kind = "phrases"
phrases = ["{SECRET}"]
[[rules]]
id = "mail"
kind = "personal"
types = ["email"]
action = "redact"
"""
AT_ONCE: Final = 6


@dataclass
class Outcome:
    guard: str
    """The identity (URI) whose verdicts count."""
    answers: int = 0
    shown: int = 0
    """Tokens."""
    uncovered: int = 0
    """Of these, those that no verdict covered that had come, was of a guard, of this policy, of these tokens and in
    time."""
    leaked: int = 0
    """Answers in which the blocked phrase was seen."""
    ends: Counter[str] = field(default_factory=Counter)
    void: Counter[str] = field(default_factory=Counter)
    """Verdicts that came and do not count, by what is wrong with them."""
    befell: Counter[str] = field(default_factory=Counter)


@dataclass
class _Heard:
    """The verdicts on one answer as they came."""

    outcome: Outcome
    policy: str
    events: list[TokenEvent]
    guard: str
    covered: int = 0
    """Events."""

    def take(self, verdict: VerdictEvent, told: Answered, answer: str) -> None:
        wrong = self._wrong(verdict, told, answer)
        if wrong:
            self.outcome.void[wrong] += 1
        elif verdict.action in (ALLOW, REDACT):
            self.covered = max(self.covered, verdict.events)

    def _wrong(self, verdict: VerdictEvent, told: Answered, answer: str) -> str:
        events = self.events[: verdict.events]
        if ndn.to_uri(told.signed_by.identity) != self.guard:
            return "signer"
        if verdict.policy != self.policy:
            return "policy"
        if verdict.answer != answer:
            return "answer"
        if verdict.until_us <= clock.wall_us():
            return "time"
        if verdict.action in (ALLOW, REDACT):
            if len(events) < verdict.events or verdict.tokens != sum(len(event.ids) for event in events):
                return "tokens"
            if verdict.digest != _digest(answer, events):
                return "digest"
        return ""


def _digest(answer: str, events: list[TokenEvent]) -> str:
    """As docs/guard.md says it, not as the product computes it."""
    said = b"ndn-infer verdict 1\0" + answer.encode() + b"\0"
    for event in events:
        text = event.text.encode()
        said += struct.pack("<II", len(event.ids), len(text)) + b"".join(struct.pack("<I", one) for one in event.ids)
        said += text
    return hashlib.sha256(said).hexdigest()


@dataclass(slots=True)
class _Watched(Guarding):
    """The guard calls of the product, overheard."""

    heard: _Heard | None = None

    async def judge(
        self, answered: Answered, before: str, attempt: int
    ) -> AsyncGenerator[tuple[VerdictEvent, Answered]]:
        assert self.heard is not None
        async for verdict, told in super(_Watched, self).judge(answered, before, attempt):
            self.heard.take(verdict, told, answered.answer.result)
            yield verdict, told


class Processes:
    """Daemons of one network, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.uri = f"unix://{folder}/f.sock"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("NDN_", "XDG_"))},
            "HOME": str(folder), "NDN_INFER_PATHS_DATA_DIR": str(folder / "data"), "PYTHONUNBUFFERED": "1",
            "NDN_INFER_NETWORK_NET": "/ndn-infer/local", "NDN_CLIENT_TRANSPORT": self.uri,
        }  # fmt: skip
        self.running: dict[str, subprocess.Popen[str]] = {}

    def config(self) -> Config:
        flags = [f"paths.data_dir={self._folder / 'data'}", "network.net=/ndn-infer/local", "call.deadline_s=5"]
        return configuration.load(file=Path(os.devnull), flags=flags)

    def begin(self, name: str, *arguments: str) -> None:
        """Not waited for."""
        with (self._folder / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "ndn_infer", *arguments], env=self._environment, cwd=ROOT,
                stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip

    def produce(self, name: str, function: str) -> None:
        self.begin(name, "produce", "--functions", function)

    async def ready(self, name: str) -> None:
        await asyncio.to_thread(wait_ready, self.running[name], [], self._folder / f"{name}.log")

    def signal(self, name: str, number: signal.Signals) -> None:
        if self.running[name].poll() is None:
            self.running[name].send_signal(number)

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        for process in reversed(self.running.values()):
            stop(process)


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[Processes]:
    daemons = Processes(folder)
    await asyncio.to_thread(ensure_keys, daemons.config(), ROLES)
    try:
        daemons.begin("forwarder", "forwarder", f"--unix={folder}/f.sock")
        await daemons.ready("forwarder")
        for name, function in (("scripted", f"{OURS}:Scripted"), ("guard", "guard"), ("wicked", f"{OURS}:Wicked")):
            daemons.produce(name, function)
        for name in ("scripted", "guard", "wicked"):
            await daemons.ready(name)
        yield daemons
    finally:
        await asyncio.to_thread(daemons.stop)


async def run(answers: int, seed: int) -> Outcome:
    """So many answers, some at once, while guards are killed, stopped and begun again."""
    with tempfile.TemporaryDirectory(prefix="gp-") as folder:
        async with network(Path(folder)) as daemons:
            config = daemons.config()
            outcome = Outcome(ndn.to_uri(role_identity(config, "guard")))
            file = Path(folder) / "policy.toml"
            file.write_text(POLICY)
            keychain = await asyncio.to_thread(ensure_keys, config, ROLES)
            async with await Node.join(config, keychain, uri=daemons.uri) as node, Client(node) as client:
                await client.demand(str(file))
                harm = asyncio.ensure_future(_harm(daemons, outcome, random.Random(seed)))
                await _ask_all(client, outcome, range(seed * 1000, seed * 1000 + answers))
                harm.cancel()
                await asyncio.gather(harm, return_exceptions=True)
    return outcome


async def _ask_all(client: Client, outcome: Outcome, numbers: range) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await _ask(client, outcome, number)

    await asyncio.gather(*(one(number) for number in numbers))


async def _ask(client: Client, outcome: Outcome, number: int) -> None:
    conversation = client.conversation()
    demanded, events = conversation.policy, script(number)
    assert demanded is not None
    heard = _Heard(outcome, demanded.policy.digest, events, outcome.guard)
    answer = conversation.generate(MODEL, (number,), Sampling(max_tokens=512))
    assert answer.guarded is not None
    answer.guarded.guarding = _Watched(demanded, conversation.caller, heard=heard)
    text, place = "", 0
    try:
        async for event in answer:
            text += event.text
            if event.finish != "content_filter":
                place += 1
                tokens = len(events[place - 1].ids) if place <= len(events) else 1
                outcome.shown += tokens
                outcome.uncovered += tokens * (place > heard.covered)
        outcome.ends[answer.finish] += 1
    except NdnInferError as error:
        outcome.ends[error.kind] += 1
    outcome.answers += 1
    outcome.leaked += SECRET.replace(" ", "") in text.replace(" ", "")


async def _harm(daemons: Processes, outcome: Outcome, rng: random.Random) -> None:
    """A guard is killed and begun again, or stopped for a while; for a while one without a key is there too."""
    while True:
        await asyncio.sleep(rng.uniform(0.2, 1.0))
        for name in ("guard", "wicked"):
            if daemons.running[name].poll() is not None:
                daemons.produce(name, "guard" if name == "guard" else f"{OURS}:Wicked")
                outcome.befell["begun again"] += 1
        name, what = rng.choice(("guard", "wicked")), rng.choice(("killed", "stopped", "stopped", "forging"))
        outcome.befell[what] += 1
        if what == "killed":
            daemons.signal(name, signal.SIGKILL)
        elif what == "stopped":
            daemons.signal(name, signal.SIGSTOP)
            await asyncio.sleep(rng.choice((0.1, 0.5, 3.0)))
            daemons.signal(name, signal.SIGCONT)
        elif "forging" not in daemons.running:
            daemons.produce("forging", f"{OURS}:Forging")
        else:
            await asyncio.to_thread(stop, daemons.running.pop("forging"))
