"""Producers that do not do what they are asked, and a network in one process that audits them.

Owns: kinds of dishonesty, one producer each. Must not know: how audits work.

Each producer signs with the key of a certified role and answers under the right name: nothing but computing it again
shows that something is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ndn_infer import records
from ndn_infer.config import CallConfig, Config, EngineConfig, FetchConfig
from ndn_infer.engine.engine import Engine, StepOutput, Stream
from ndn_infer.engine.fallback import load_model
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import EngineClass
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.answer_engine import AnswerOrder
from ndn_infer.functions.audit.auditor import AuditEngine, Auditor
from ndn_infer.functions.audit.function import AuditAnswers
from ndn_infer.functions.audit.local_engine import of_worker
from ndn_infer.functions.audit.published_answer import FetchedAnswer, base_of, fetch_answer
from ndn_infer.functions.base import Host, Job
from ndn_infer.functions.decode import Generate
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.functions.kv_answer import AnsweringHost, KvAnswer
from ndn_infer.functions.producer import Producer as FunctionProducer
from ndn_infer.models.store import ModelFolder
from ndn_infer.namespace import RequestObject
from ndn_infer.ndn.name import Name, from_uri, to_uri
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.records import GenerateRequest, Sampling, TokenEvent
from ndn_infer.security.crypto import Signer
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.objects.live_stream import LiveStream
from tests.harness import NET, Node, role

ENGINE = EngineConfig(kv_memory_mib=256, prefill_elsewhere="never")

KINDS = ("weights", "seed", "cut", "edit", "passage", "kv")
"""int4 weights for bf16; another seed; half of the prompt; one token edited; another passage in the prompt; KV of other
weights."""


class Producer(Generate):
    """Honest. It publishes the request as it came, whatever it does with it."""

    def __init__(self, model: str, folder: Path, engine: AnsweringHost) -> None:
        super().__init__(model, folder, engine)
        self.host = engine

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        call = job.call
        asked = RequestObject(call.subject_kind, call.subject, call.function, call.request).to_name(job.host.net)
        if asked not in job.host.server.store:
            job.host.server.publish(asked, records.encode(request), job.signer)
        return await super().run(self.changed(request), job)

    def changed(self, request: GenerateRequest) -> GenerateRequest:
        return request


class OtherSeed(Producer):
    def changed(self, request: GenerateRequest) -> GenerateRequest:
        return replace(request, sampling=replace(request.sampling, seed=request.sampling.seed + 1))


class CutPrompt(Producer):
    """The first half is gone."""

    def changed(self, request: GenerateRequest) -> GenerateRequest:
        return replace(request, prompt=request.prompt[len(request.prompt) // 2 :])


class OtherPassage(Producer):
    """A third of the prompt in its middle is other text, of the same prompt in another order."""

    def changed(self, request: GenerateRequest) -> GenerateRequest:
        prompt, third = request.prompt, len(request.prompt) // 3
        return replace(request, prompt=(*prompt[:third], *reversed(prompt[third : 2 * third]), *prompt[2 * third :]))


class EditedAnswer(KvAnswer):
    def on_step(self, output: StepOutput) -> None:
        if len(self.answer.ids) == self.params.max_tokens // 2 and output.token_id >= 0:
            likely = [token for token, _ in output.top if token != output.token_id]
            output = output._replace(token_id=likely[0] if likely else output.token_id + 1)
        super().on_step(output)


class EditedToken(Producer):
    """The token in the middle of the answer is the second most likely one, or the one after it."""

    def making(self, order: AnswerOrder) -> KvAnswer:
        return EditedAnswer(self.host, order)


class ForeignAnswer(KvAnswer):
    other: Callable[[], Engine]

    async def start(self, blocks: Sequence[torch.Tensor], *, arriving: bool = False) -> Stream:
        connector, ids = self.connector, self.asked
        foreign = await asyncio.to_thread(foreign_kv, self.other(), ids)
        for value, block in zip(connector.blocks.chain(ids), foreign, strict=False):
            connector.published.publish(value, block, self.order.job.signer)
        return await super().start(foreign)


class ForeignKv(Producer):
    """The prompt's KV is that of int4 weights, and published as that of the model's own."""

    def __init__(self, model: str, folder: Path, engine: AnsweringHost, other: Callable[[], Engine]) -> None:
        super().__init__(model, folder, engine)
        self._other = other

    def making(self, order: AnswerOrder) -> KvAnswer:
        answer = ForeignAnswer(self.host, order)
        answer.other = self._other
        return answer


def foreign_kv(engine: Engine, ids: Sequence[int]) -> list[torch.Tensor]:
    """KV of a prompt by the weights that this engine decodes with."""
    stream = engine.start(ids, Sampling(max_tokens=1), answered=len(ids) - 1)
    while stream.finished is None:
        engine.step()
    return [engine.export_block(stream, index).clone() for index in range(len(ids) // engine.block_tokens)]


class Claiming(AnsweringHost):
    """An engine that is said to be of another class than it is."""

    claimed: str = ""

    async def start(self, host: Host, signer: Signer) -> None:
        await super().start(host, signer)
        if self.claimed:
            self._class = EngineClass.parse(self.claimed)


@dataclass
class AuditWorld:
    """A network, the model, and an auditor of the class that is asked for."""

    network: MemoryNetwork
    keychain: Keychain
    model: str
    folder: Path
    config: Config
    engines: Engines
    consumer: Node
    audit: AuditEngine
    auditor: Auditor
    workers: list[EngineWorker] = field(default_factory=list)
    """Of producers, in the order in which they began."""

    @property
    def engine(self) -> str:
        """The class that requests name."""
        return str(self.audit.engine)

    async def ask(self, request: GenerateRequest, *, at: Sequence[Name] = (), evidence: bool = False) -> Name:
        """The name of the answer, with its version, once it is whole."""
        ask = Ask(("model", self.model), "generate", request, at=tuple(at), evidence=evidence)
        name = b""
        async for _, answered in self.consumer.caller.stream(ask, TokenEvent):
            name = from_uri(answered.answer.result)
        return name

    async def fetch(self, name: Name) -> FetchedAnswer:
        base, version = base_of(name)
        return await fetch_answer(self.consumer.fetcher, self.consumer.validator, base, version)

    @asynccontextmanager
    async def producing(self, kind: str = "", *, weights: str = "") -> AsyncIterator[Node]:
        """One producer, honest or of one of KINDS, until the block ends. `weights`: those of the class that it says it
        is of."""
        claimed, weights = weights, "int4" if kind == "weights" else weights
        options = replace(self.config.engine, weights=weights)
        worker = self.engines.worker(weights)
        self.workers.append(worker)
        host = Claiming(self.model, self.folder, options, worker)
        host.claimed = self.engine if not claimed else ""
        node = await Node(self.network, self.keychain, replace(self.config, engine=options)).open()
        function: Producer
        if kind == "kv":
            function = ForeignKv(self.model, self.folder, host, lambda: self.engines.fresh("int4"))
        else:
            makers = {"seed": OtherSeed, "cut": CutPrompt, "passage": OtherPassage, "edit": EditedToken}
            function = makers.get(kind, Producer)(self.model, self.folder, host)
        producer = await node.produce(function)
        try:
            yield node
        finally:
            await producer.close()
            await node.close()

    @asynccontextmanager
    async def auditing(self) -> AsyncIterator[tuple[Node, AuditAnswers, Host]]:
        """A producer of the role audit, which audits all that it hears of when it is told to look."""
        config = replace(
            self.config, audit=replace(self.config.audit, rate=1.0, every_s=86_400.0),
            offers=replace(self.config.offers, pull=(to_uri(role("decode")),)),
        )  # fmt: skip
        node = await Node(self.network, self.keychain, config).open()
        offers = Offers(Where.of(NET, node.endpoint, node.validator, config))
        host = replace(node.new_host(), offers=offers)
        engine = AnsweringHost(self.model, self.folder, config.engine, self.engines.worker(""))
        function = AuditAnswers(self.model, self.folder, engine)
        producer = FunctionProducer(host, self.keychain, node.registrar)
        await producer.begin()
        await producer.offer(function, self.keychain.signer_for(role("audit")))
        try:
            yield node, function, host
        finally:
            await producer.close()
            await offers.close()
            await node.close()


class Engines:
    """Over weights that are loaded once."""

    def __init__(self, folder: Path, options: EngineConfig = ENGINE) -> None:
        self._folder, self._options = folder, options
        self._models: dict[str, object] = {}

    def fresh(self, weights: str) -> Engine:
        options = replace(self._options, weights=weights)
        if weights not in self._models:
            self._models[weights] = load_model(self._folder, options)
        return Engine(self._models[weights], options)  # type: ignore[arg-type]

    def worker(self, weights: str) -> EngineWorker:
        return EngineWorker(lambda: self.fresh(weights))


@asynccontextmanager
async def audit_world(
    model: ModelFolder, keychain: Keychain, engines: Engines | None = None
) -> AsyncIterator[AuditWorld]:  # fmt: skip
    """`keychain` has the roles decode, prefill, user and audit of node n1."""
    config = replace(
        Config(), call=replace(CallConfig(), deadline_s=120.0), fetch=replace(FetchConfig(), stream_idle_s=60.0),
        engine=ENGINE,
    )  # fmt: skip
    network, engines = MemoryNetwork(), engines or Engines(model.path)
    consumer = await Node(network, keychain, config, asks_as="user").open()
    worker = engines.worker("")
    engine = await worker.start()
    tokenizer = ChatTokenizer.load(model.path)
    audit = of_worker(model.digest, worker, engine, config.engine, tokenizer)
    try:
        yield AuditWorld(
            network, keychain, model.digest, model.path, config, engines, consumer,
            audit, Auditor(consumer.fetcher, consumer.validator, audit),
        )  # fmt: skip
    finally:
        await worker.close()
        await consumer.close()
