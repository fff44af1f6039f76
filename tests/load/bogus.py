"""Ten thousand calls that nobody means, at a network that answers questions: what honest askers feel.

    python -m tests.load.bogus [--calls 10000] [--rate 500] [--questions 40]

`ndn-infer up` with the real model, an attacker as a process of its own at low priority, and one honest asker with new
questions one after another: first alone, then under the attack, which has a face of its own. What is sent: well-formed
calls of generate, each with a prompt of its own, whose answers nobody reads; texts to tokenize; requests that lie
nowhere; rubbish. Prints one JSON document: time to first token, median and 95th percentile, quiet and under attack, and
the most work that the network had admitted at any moment. Fails when the ratio of the 95th percentiles is 2 or more,
when more was admitted than there are seats, or when an honest question was not answered.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.client import Conversation
from ndn_infer.config import ProducerConfig
from ndn_infer.models.store import prepare
from ndn_infer.namespace import Call, CallClass, Input
from ndn_infer.ndn.packet import encode_interest
from ndn_infer.records import Envelope, GenerateRequest, ModelRecord, Sampling, TokenizeRequest
from ndn_infer.transport.link.links import connect
from tests.clients import client_of, config_of
from tests.daemons import RunningNetwork, run_network

NET: Final = ndn.from_uri("/ndn-infer/local")
NICE: Final = 10
TICK_S: Final = 0.01
PROMPT_TOKENS: Final = 200
ANSWER_TOKENS: Final = 8
WORKING: Final = ("decode", "prefill", "tokenize")
WORDS: Final = "harbour lantern winter garden copper river market violin morning letter bridge candle".split()


@dataclass
class Report:
    """Seconds to the first token; `admitted` is the most that was in work or in a queue of one producer."""

    calls: int = 0
    quiet: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    unanswered: int = 0
    admitted: int = 0
    seats: int = 0
    refused: float = 0

    @property
    def ratio(self) -> float:
        return percentile(self.attacked, 0.95) / max(percentile(self.quiet, 0.95), 1e-9)

    def document(self) -> dict[str, object]:
        plain = asdict(self)
        for phase in ("quiet", "attacked"):
            seconds = plain.pop(phase)
            plain[phase] = {"p50_s": percentile(seconds, 0.5), "p95_s": percentile(seconds, 0.95), "n": len(seconds)}
        return {**plain, "ratio_p95": round(self.ratio, 2)}


def percentile(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds) or [0.0]
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 4)


# ---------------------------------------------------------------- the attacker


class Bogus:
    """Makes Interests, all different."""

    def __init__(self, model: str, engine: str, seed: int) -> None:
        self._model, self._engine = model, engine
        self._draw = random.Random(seed)
        self._kinds = (self._generate, self._generate, self._tokenize, self._nowhere, self._rubbish)

    def next(self) -> bytes:
        return self._draw.choice(self._kinds)()

    def _call(self, function: str, request: bytes, envelope: Envelope) -> bytes:
        call = Call("model", self._model, function, CallClass.SHARED, hashlib.sha256(request).hexdigest())
        wire, _ = encode_interest(
            call.to_name(NET), nonce=self._draw.randbytes(4), must_be_fresh=True, lifetime_ms=1000,
            parameters=records.encode(envelope),
        )  # fmt: skip
        return wire

    def _generate(self) -> bytes:
        ids = tuple(self._draw.randrange(1000, 40_000) for _ in range(PROMPT_TOKENS))
        request = records.encode(GenerateRequest(Sampling(max_tokens=200), ids, engine=self._engine))
        return self._call("generate", request, Envelope(request))

    def _tokenize(self) -> bytes:
        request = records.encode(TokenizeRequest(text=" ".join(self._draw.choices(WORDS, k=300))))
        return self._call("tokenize", request, Envelope(request))

    def _nowhere(self) -> bytes:
        request = self._draw.randbytes(32)
        source = ndn.to_uri(Input("evil", "n1", "user", "0a", request.hex()).to_name(NET))
        return self._call("generate", request, Envelope(sources=(source,), caller="/evil"))

    def _rubbish(self) -> bytes:
        request = self._draw.randbytes(60)
        return self._call("generate", request, Envelope(request))


async def attack(uri: str, bogus: Bogus, calls: int, rate: float) -> None:
    """Send that many, evenly; what comes back is not looked at."""
    link = await connect(uri, 3.0)
    link.receiver = lambda packets: None
    link.lost = lambda: None
    began, sent = time.monotonic(), 0
    while sent < calls:
        due = min(int((time.monotonic() - began) * rate) + 1, calls)
        while sent < due:
            link.send(bogus.next())
            sent += 1
        link.flush()
        await asyncio.sleep(TICK_S)
    print(json.dumps({"sent": sent}), flush=True)
    sys.stdin.read()
    link.close()


# ---------------------------------------------------------------- the honest asker


class Asker:
    """Asks new questions, one after another."""

    def __init__(self, conversation: Conversation, model: ModelRecord, seed: int) -> None:
        self._conversation, self._model, self._draw = conversation, model, random.Random(seed)

    async def first_token_s(self) -> float | None:
        """None: no answer."""
        words = " ".join(self._draw.choices(WORDS, k=12))
        began, first = time.monotonic(), None
        try:
            async with asyncio.timeout(60):
                answer = await self._conversation.ask(
                    self._model.alias, f"Use these words: {words}.", Sampling(max_tokens=ANSWER_TOKENS)
                )
                async for event in answer:
                    if event.ids and first is None:
                        first = time.monotonic() - began
                return first
        except Exception as error:
            print(f"an honest question failed: {error!r}", file=sys.stderr)
        return None

    async def phase(self, questions: int, into: list[float]) -> int:
        """How many were not answered."""
        missing = 0
        for _ in range(questions):
            seconds = await self.first_token_s()
            if seconds is None:
                missing += 1
            else:
                into.append(seconds)
        return missing


async def watch(network: RunningNetwork, report: Report, over: asyncio.Event) -> None:
    """The most work that a producer says it has."""
    while not over.is_set():
        status = await asyncio.to_thread(network.status)
        for producer in status["producers"]:
            if producer["identity"].rsplit("/", 1)[1] in WORKING and "running" in producer:
                report.admitted = max(report.admitted, producer["running"] + producer["queue"])
                report.refused = max(report.refused, producer["counters"].get("refused_busy", 0))
        await asyncio.sleep(1.0)


async def campaign(network: RunningNetwork, calls: int, rate: float, questions: int, seed: int = 1) -> Report:
    report = Report(calls=calls, seats=2 * ProducerConfig().queue_limit)
    async with client_of(config_of(network)) as (conversation, _):
        model = await conversation.resolve_model("smollm2-135m-instruct")
        asker = Asker(conversation, model, seed)
        await asker.phase(2, [])
        report.unanswered += await asker.phase(questions, report.quiet)
        attacker = _attacker(network, model.digest, conversation.engines.of(model.digest), calls, rate)
        over = asyncio.Event()
        watching = asyncio.ensure_future(watch(network, report, over))
        try:
            report.unanswered += await asker.phase(questions, report.attacked)
        finally:
            over.set()
            await watching
            attacker.communicate(b"")
    return report


def _attacker(
    network: RunningNetwork, model: str, engine: str, calls: int, rate: float
) -> subprocess.Popen[bytes]:  # fmt: skip
    arguments = ["--attack", f"unix://{network.socket}", model, engine, str(calls), str(rate)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.load.bogus", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2], preexec_fn=lambda: os.nice(NICE),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second")
    parser.add_argument("--questions", type=int, default=40, help="honest ones in each phase")
    parser.add_argument("--cache", type=Path, help="prepared models")
    parser.add_argument("--attack", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        uri, model, engine, calls, rate = options.attack
        asyncio.run(attack(uri, Bogus(model, engine, 7), int(calls), float(rate)))
        return 0
    with tempfile.TemporaryDirectory() as home:
        cache = options.cache or Path(home) / "cache"
        prepare("smollm2-135m-instruct", cache)
        with run_network(Path(home), cache) as network:
            report = asyncio.run(campaign(network, options.calls, options.rate, options.questions))
    print(json.dumps(report.document(), indent=1))
    return 0 if report.ratio < 2 and report.admitted <= report.seats and not report.unanswered else 1


if __name__ == "__main__":
    sys.exit(main())
