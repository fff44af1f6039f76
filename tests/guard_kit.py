"""Answers under a policy over a real forwarder core: the product's guard, and a producer in the test's hand.

Owns: that network, and a gateway in front of it. Needs the packages of the extra `guard`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from ndn_infer import catalog, records
from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.config import Config, GatewayConfig
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import NamedFunction
from ndn_infer.functions.guard.function import JudgeAnswers, ScreenTexts
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.functions.producer import Producer
from ndn_infer.gateway.policies import KeptPolicies
from ndn_infer.gateway.served import Served
from ndn_infer.gateway.server import GatewayServer
from ndn_infer.gateway.service import Service
from ndn_infer.gateway.tenants import Tenants
from ndn_infer.namespace import Machine
from ndn_infer.ndn import lp
from ndn_infer.records import GenerateRequest, ModelRecord, Sampling, TokenEvent, TokenizeRequest, Tokens
from ndn_infer.security import domain_store
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.live_stream import LiveStream
from tests.harness import NET, Node, keychain_in, role
from tests.inprocess.test_streams import CONFIG, SUBJECT, Open, until

MODEL = ModelRecord("some", SUBJECT[1], "causal-lm", "LlamaForCausalLM", 512, 49_152)
POLICY = """
name = "test"
hold_back = 4
wait_s = 3
[[rules]]
id = "codename"
kind = "phrases"
phrases = ["project nightingale"]
[[rules]]
id = "personal"
kind = "personal"
action = "redact"
"""
DOMAIN = domain_store.create("acme", role("user"))
JudgeMaker = Callable[[ReadyPolicies], JudgeAnswers]


class Ids(Open):
    """As many ids as the text has characters."""

    function, role, request_type, private = "tokenize", "tokenize", TokenizeRequest, True

    async def run(self, request: Any, job: Any) -> Any:
        return Tokens(tuple(range(len(request.text or request.messages[-1].content))))


class Written(Open):
    """As Open, for members of a domain too; knows what each stream was asked."""

    private = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[GenerateRequest] = []

    async def run(self, request: GenerateRequest, job: Any) -> LiveStream:
        self.requests.append(request)
        return await super().run(request, job)


@dataclass
class GuardedWorld:
    conversation: Conversation
    client: Client
    function: Written
    guard: Any
    counters: Any
    reader: Node
    producer: Node
    offered: Producer
    wire: list[bytes] = field(default_factory=list)
    """What passed, where the world is in a domain."""

    def answer(self, prompt: Sequence[int] = (1, 2, 3)) -> Answer:
        return self.conversation.generate(MODEL, tuple(prompt), Sampling(max_tokens=64))


@asynccontextmanager
async def guarded(
    folder: Path,
    policy: str = POLICY,
    *others: NamedFunction[Any],
    guard: bool = True,
    judge_by: JudgeMaker = JudgeAnswers,
    private: bool = False,
) -> AsyncIterator[GuardedWorld]:
    """`private`: all of it within a tenant domain, and what passes is kept."""
    keychain = keychain_in(folder / "keys", "decode", "tokenize", "guard", "classify", "embed", "user")
    network, function = MemoryNetwork(), Written()
    domains = [tenant_of(DOMAIN)] if private else []
    producer, judge = [
        await Node(network, keychain, CONFIG, asks_as="guard", domains=domains).open() for _ in range(2)
    ]  # fmt: skip
    reader = await Node(network, keychain, CONFIG, commands_as=Machine("home", "n1").to_name(NET)).open()
    if private:
        with DomainStore(reader.config.keys_dir).locked():
            DomainStore(reader.config.keys_dir).save(DOMAIN)
    offered = [await producer.produce(function, Ids(), *others)]
    if guard:
        policies = ReadyPolicies()
        offered.append(await judge.produce(judge_by(policies), ScreenTexts(policies)))
    file = folder / "policy.toml"
    file.write_text(policy)
    async with Client(reader.joined) as client:
        await client.demand(str(file))
        conversation = client.conversation(tenant_of(DOMAIN).newest.label if private else PUBLIC.label)
        counters = getattr(judge, "counters", {})
        made = GuardedWorld(
            conversation, client, function, offered[-1], counters, reader, producer, offered[0]
        )  # fmt: skip
        for node in (reader, judge, producer) if private else ():
            node.link.tamper_up = lambda wire: made.wire.append(lp.decode_lp(wire).fragment) or wire
        yield made
    for one in reversed(offered):
        await one.close()
    for node in (reader, judge, producer):
        await node.close()
    network.close()


async def told(w: GuardedWorld, texts: Sequence[str], answer: Answer) -> list[str]:
    """Write these events, the last one with the end; what is shown, event by event."""
    reading = asyncio.ensure_future(read(answer))
    await write(await w.function.opened(len(w.function.streams) + 1), texts)
    return await reading


async def write(stream: LiveStream, texts: Sequence[str]) -> None:
    for number, text in enumerate(texts, 1):
        last = number == len(texts)
        stream.append(records.encode(TokenEvent((number,), text, "stop" if last else "")), final=last)
        await asyncio.sleep(0.005)


async def read(answer: Answer) -> list[str]:
    shown = []
    async for event in answer:
        shown.append(event.text)
    return shown


# ------------------------------------------------------------ a gateway


@dataclass
class Front:
    world: GuardedWorld
    session: ClientSession

    async def ask(self, path: str, document: dict[str, Any], *streams: Sequence[str], key: str = "") -> FrontAnswer:
        """Status and what came; meanwhile the producer writes these texts, an answer each."""
        work = asyncio.ensure_future(self._post(path, document, key))
        first = len(self.world.function.streams)
        for number, texts in enumerate(streams):
            await until(lambda wanted=first + number + 1: len(self.world.function.streams) >= wanted or work.done())
            if not work.done():
                await write(self.world.function.streams[first + number], texts)
        return await work

    async def _post(self, path: str, document: dict[str, Any], key: str) -> FrontAnswer:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.session.post(path, json=document, headers=headers) as answer:
            return FrontAnswer(answer.status, await answer.text())


@dataclass(frozen=True)
class FrontAnswer:
    status: int
    body: str

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Of a stream of server-sent events, those with data in JSON."""
        lines = [line.removeprefix("data: ") for line in self.body.splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]


@asynccontextmanager
async def front(w: GuardedWorld, folder: Path, keys: str = "") -> AsyncIterator[Front]:
    """A gateway of the product; `keys`: lines of its file of API keys. Without, its client's policy holds for all."""
    for packets in catalog.load(catalog.publish(folder / "catalog", w.producer.keychain, MODEL)):
        w.producer.server.put(packets, pinned=True)
        await w.offered.offer_object(packets.base, w.producer.keychain.signer_for(role("decode")))
    config = Config()
    settings = GatewayConfig(listen="127.0.0.1:0", ready_s=0.0, drain_s=0.05)
    file = folder / "keys.txt"
    file.write_text(keys)
    file.chmod(0o600)
    served = Served(
        Service(w.client, config, lambda: PUBLIC.label), str, policies=KeptPolicies(w.client.policy_of)
    )  # fmt: skip
    server = GatewayServer(served, settings, Tenants(file if keys else None))
    await server.open()
    try:
        async with ClientSession(server.url.removesuffix("v1")) as session:
            yield Front(w, session)
    finally:
        await server.close()
