"""100 MB of input by reference: rejected before any of it is asked for, or pulled where that is configured; by callers
that the network has a route to and by others."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config, ProducerConfig
from ndn_infer.errors import CallError, NetworkError, RegistrationRefused
from ndn_infer.forwarder.management.access import CommandClaim, Verdict
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.tokenize import Text
from ndn_infer.records import Record, Request
from ndn_infer.records.bounds import AtMost
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.link.registration import Registrar
from tests.harness import Node, keychain_in

SUBJECT = ("service", "digest")
HUNDRED_MB = 100_000_000
PULLED = 20 << 20
"""What CI pulls; tests/load has the hundred."""
CONFIG = replace(Config(), call=CallConfig(deadline_s=60.0))
GENEROUS = replace(CONFIG, producer=ProducerConfig(input_mib=128))


@dataclass(frozen=True, slots=True)
class Bulk(Request):
    content: Annotated[bytes, AtMost(128 << 20)] = b""
    max_bytes = 129 << 20


class Digest(NamedFunction[Bulk]):
    function, role, request_type, subject = "digest", "digest", Bulk, SUBJECT
    max_request_bytes = 129 << 20

    async def run(self, request: Bulk, job: Job) -> Record:
        return Text(hashlib.sha256(request.content).hexdigest())


class Modest(Digest):
    """As functions are by default."""

    max_request_bytes = NamedFunction.max_request_bytes


@dataclass
class Net:
    network: MemoryNetwork
    keychain: object
    nodes: list[Node]

    async def node(self, config: Config = CONFIG, asks_as: str = "") -> Node:
        node = await Node(self.network, self.keychain, config, asks_as=asks_as).open()  # type: ignore[arg-type]
        self.nodes.append(node)
        return node


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    found = Net(MemoryNetwork(), keychain_in(tmp_path / "keys", "digest", "user"), [])
    yield found
    for node in reversed(found.nodes):
        await node.close()
    found.network.close()


def ask(size: int) -> tuple[Ask, str]:
    content = b"0123456789abcdef" * (size // 16)
    return Ask(SUBJECT, "digest", Bulk(content)), hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("function", "config"), [(Modest(), GENEROUS), (Digest(), CONFIG)], ids=["function", "node"])
async def test_a_hundred_megabytes_are_rejected_before_any_of_it_is_asked_for(
    net: Net, function: NamedFunction[Bulk], config: Config
) -> None:
    producer = await net.node(config)
    offered = await producer.produce(function)
    asker = await net.node(asks_as="user")
    question, _ = ask(HUNDRED_MB)
    with pytest.raises(CallError) as refused:
        await asker.caller.call(question, Text)
    assert refused.value.code == "bad-request" and "a request of 1000000" in str(refused.value)
    assert producer.fetcher.stats.received == 0 and asker.endpoint.stats.data_out < 20
    await offered.close()


async def test_large_input_is_pulled_where_that_is_configured(net: Net) -> None:
    producer = await net.node(GENEROUS)
    offered = await producer.produce(Digest())
    asker = await net.node(asks_as="user")
    question, digest = ask(PULLED)
    assert (await asker.caller.call(question, Text)).text == digest
    await offered.close()


async def test_a_caller_whose_forwarder_grants_it_no_route_is_told_so_at_once(net: Net) -> None:
    producer = await net.node(GENEROUS)
    offered = await producer.produce(Digest())
    asker = await net.node(asks_as="user")

    def nobody(claim: CommandClaim, verdict: Verdict) -> None:
        verdict("no routes for applications here")

    net.network.management._authority = nobody
    question, _ = ask(HUNDRED_MB)
    with pytest.raises(RegistrationRefused, match="no routes for applications"):
        await asker.caller.call(question, Text)
    await offered.close()


async def test_a_request_that_lies_where_no_route_leads_ends_with_words_and_holds_nothing(net: Net) -> None:
    """A caller that claims a hint which leads nowhere: the pull fails, no seat was taken, nothing stays."""
    producer = await net.node(GENEROUS)
    offered = await producer.produce(Digest())
    asker = await net.node(asks_as="user")
    assert asker.inputs is not None
    content = records.encode(ask(1 << 20)[0].request)
    published = await asker.inputs.publish(content)
    await asker.registrar.unregister(asker.inputs.instance)
    for prefix in asker.registrar.prefixes:
        await asker.registrar.unregister(prefix)
    asker.server.store = ObjectStore(1 << 20)
    elsewhere = published._replace(hint="/nowhere")
    asker.inputs.publish = lambda _: _done(elsewhere)  # type: ignore[method-assign, assignment]
    with pytest.raises((CallError, NetworkError)):
        await asker.caller.call(ask(1 << 20)[0], Text)
    assert offered._servers[0]._admission.seats.taken == 0 and len(offered._host.inputs) == 0
    await offered.close()


async def _done(value: object) -> object:
    return value


async def test_a_caller_stays_reachable_when_its_forwarder_forgot_its_routes(net: Net) -> None:
    """Routes are refreshed as long as the program lives: a large request is pulled also after its route ran out."""
    producer = await net.node(GENEROUS)
    offered = await producer.produce(Digest())
    asker = await net.node(asks_as="user")
    assert asker.inputs is not None
    asker.inputs._registrar = Registrar(asker.endpoint, refresh_s=0.2)
    await asker.inputs.announce()
    ours = {asker.inputs.instance, ndn.prefix(asker.inputs.instance, -2)}
    for _ in range(2):
        for prefix in ours:
            net.network.core.rib.unregister(prefix, asker.link.face.id, 65)
        assert not ours & {prefix for prefix, _ in net.network.core.rib.items()}
        for _ in range(400):
            await asyncio.sleep(0.05)
            if ours <= {prefix for prefix, _ in net.network.core.rib.items()}:
                break
        else:
            raise AssertionError("a route was not made again")
    question, digest = ask(1 << 20)
    assert (await asker.caller.call(question, Text)).text == digest
    await asker.inputs._registrar.close()
    await offered.close()
