"""Pipelines of stages over the real forwarder core, each node in this process, and the tokens of one engine alone.

Owns: nodes of one function, a line of stages with somebody who asks. Must not know: what is tested.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.config import CallConfig, Config, EngineConfig, ProducerConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork  # noqa: E402
from ndn_infer.functions.base import NamedFunction  # noqa: E402
from ndn_infer.functions.pipeline import GenerateOverStages  # noqa: E402
from ndn_infer.functions.producer import Producer  # noqa: E402
from ndn_infer.functions.stage import RunStage  # noqa: E402
from ndn_infer.functions.stage_host import StageHost  # noqa: E402
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.records import GenerateRequest, Sampling, TokenEvent  # noqa: E402
from ndn_infer.security.keychain import Keychain  # noqa: E402
from ndn_infer.transport.calls.ask import Ask  # noqa: E402
from ndn_infer.transport.link.links import Link  # noqa: E402
from tests.engine_kit import engine_here  # noqa: E402
from tests.harness import NET, Node, role  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

CHUNK = 32
LAYERS = 6
CUTS = {"two": (3,), "three": (1, 4)}
GREEDY = Sampling(max_tokens=12, ignore_eos=True)
TOWN: dict[str, Any] = {"type": "object", "properties": {"town": {"enum": ["Rome", "Bonn"]}, "size": {"type": "integer",
                        "maximum": 99}}, "required": ["town", "size"], "additionalProperties": False}  # fmt: skip
SAMPLED = Sampling(max_tokens=12, ignore_eos=True, temperature=0.9, top_p=0.9, seed=7, repetition_penalty=1.2)
PROMPTS = [[(7919 * n + 11) % 1000 for n in range(length)] for length in (1, 9, 32, 33, 75)]


@dataclass(frozen=True)
class Model:
    """Where a model lies, and its name in the network."""

    path: Path
    digest: str
    layers: int = LAYERS


def random_model(real: ModelFolder, folder: Path) -> Model:
    """Random weights with the tokenizer of `real`."""
    sizes = {"vocab_size": 1000, "num_hidden_layers": LAYERS, "max_position_embeddings": 512}
    return Model(small_model(folder, tokenizer_of=real.path, **sizes), "ab" * 32)


class Peer(Node):
    """A node of one function."""

    def __init__(self, network: MemoryNetwork, keychain: Keychain, config: Config, *, delay_s: float = 0.0) -> None:
        super().__init__(network, keychain, config)
        self._delay_s = delay_s
        self.producer: Producer | None = None

    async def _dial(self) -> Link:
        link = self.network.attach(delay_s=self._delay_s)
        self.links.append(link)
        return link

    async def offer(self, function: NamedFunction[Any], identity: ndn.Name) -> None:
        host = self.host = self.new_host()
        self.function = function
        self.validator.add_certificates(*self.keychain.certificates())
        self.producer = Producer(host, self.keychain, self.registrar)
        await self.producer.offer(function, self.keychain.signer_for(identity))

    async def close(self) -> None:
        if self.producer is not None:
            await self.producer.close()
        await super().close()


class Line:
    """Stages of one model, the node that generates, and somebody who asks."""

    def __init__(self, folder: Model, config: Config, cut: Sequence[int], delay_s: float) -> None:
        self.folder, self.config, self.delay_s = folder, config, delay_s
        edges = [0, *cut, folder.layers]
        self.ranges = [(first, end - 1) for first, end in zip(edges, edges[1:], strict=False)]
        self.network = MemoryNetwork()
        self.peers: list[Peer] = []

    async def begin(self, keys: Path, *, signed_by: str = "stage") -> None:
        self.keychain = Keychain.open_or_create(keys, NET)
        names = [f"s{number}" for number in range(len(self.ranges))]
        identities = [role(label, node=name) for name in names for label in ("stage", "decode", "user")]
        self.keychain.ensure(NET + ndn.generic("operator"), *identities)
        for number in range(len(self.ranges)):
            self.peers.append(await self.start(number, signed_by=signed_by))
        self.asker = await self.join()

    async def join(self) -> Peer:
        peer = Peer(self.network, self.keychain, self.config, delay_s=self.delay_s)
        await peer.open()
        peer.validator.add_certificates(*self.keychain.certificates())
        return peer

    async def start(self, number: int, *, signed_by: str = "stage") -> Peer:
        peer = await self.join()
        last = number == len(self.ranges) - 1
        host = StageHost(self.folder.digest, self.folder.path, self.ranges[number], self.config.engine)
        peer.stages = host  # type: ignore[attr-defined]
        function = GenerateOverStages(self.folder.path, host) if last else RunStage(host)
        await peer.offer(function, role("decode" if last else signed_by, node=f"s{number}"))
        return peer

    async def restart(self, number: int) -> None:
        await self.peers[number].close()
        self.peers[number] = await self.start(number)

    def counter(self, number: int, name: str) -> int:
        return self.peers[number].host.counters[name]

    async def events(
        self, prompt: Sequence[int], sampling: Sampling, *, answered: int = 0
    ) -> AsyncIterator[TokenEvent]:  # fmt: skip
        request = GenerateRequest(
            sampling, tuple(prompt), engine=engine_here(self.config.engine), answered=answered
        )  # fmt: skip
        subject = ("model", self.folder.digest)
        async for event, _ in self.asker.caller.stream(Ask(subject, "generate", request), TokenEvent):
            yield event

    async def say(self, prompt: Sequence[int], sampling: Sampling, *, answered: int = 0) -> list[tuple[int, float]]:
        """Tokens and their log probabilities."""
        said: list[tuple[int, float]] = []
        async for event in self.events(prompt, sampling, answered=answered):
            assert event.finish != "error", event.error
            said += zip(event.ids, [told.logprob for told in event.logprobs], strict=True)
        return said

    async def ask(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        ids: list[int] = []
        async for event in self.events(prompt, sampling):
            assert event.finish != "error", event.error
            ids += event.ids
        return ids


@asynccontextmanager
async def line(
    folder: Model, cut: Sequence[int], *, dtype: str = "fp32", delay_s: float = 0.0, signed_by: str = "stage",
    deadline_s: float = 30.0, **options: Any,
) -> AsyncIterator[Line]:  # fmt: skip
    engine = EngineConfig(dtype=dtype, chunk_tokens=CHUNK, **options)
    config = replace(
        Config(), engine=engine, call=replace(CallConfig(), deadline_s=deadline_s), producer=ProducerConfig(event_ms=0)
    )
    made = Line(folder, config, cut, delay_s)
    with tempfile.TemporaryDirectory() as keys:
        try:
            await made.begin(Path(keys), signed_by=signed_by)
            yield made
            await made.asker.close()
        finally:
            for peer in made.peers:
                await peer.close()
            made.network.close()


def alone(folder: Model, asked: Sequence[tuple[Sequence[int], Sampling]], **options: Any) -> list[list[int]]:
    """The tokens of one engine that has the whole model."""
    engine = Engine.load(folder.path, EngineConfig(chunk_tokens=CHUNK, **options))
    found = []
    for prompt, sampling in asked:
        params = Sampling(
            max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
            seed=sampling.seed, repetition_penalty=sampling.repetition_penalty, grammar=sampling.grammar,
        )  # fmt: skip
        stream = engine.start(prompt, params)
        while stream.finished is None:
            engine.step()
        found.append(stream.generated)
    return found
