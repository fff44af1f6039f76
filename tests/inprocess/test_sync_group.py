"""Sync groups over real forwarders: publications heard over hops, pulled by name, refused from others, with loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.errors import Nacked, Timeout
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.namespace import Sync
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.sync.core import packets
from ndn_infer.sync.core.state import Options, StateMessage
from ndn_infer.sync.core.vector import Entry, decode_mapping, encode_vector
from ndn_infer.sync.fetching import FetchOptions, Publication
from ndn_infer.sync.group import SyncGroup, SyncOptions
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.serve import Server
from tests.harness import NET, keychain_in, role
from tests.integration.test_zero_trust import POLICY, under_policy
from tests.interop.ndnts_kit import until

GROUP = Sync("offers").to_name(NET)
LABELS = ("decode", "prefill", "tokenize", "embed")


class Station:
    """One application: an endpoint, keys, a group; what it was told."""

    def __init__(
        self, network: MemoryNetwork, keychain: Keychain, label: str, *, registers: bool = True, signs: bool = False
    ) -> None:
        self.label, self.network, self.keychain = label, network, keychain
        self.me = role(label)
        self.link = network.attach()
        self.endpoint = Endpoint(self._dial)
        self.validator = Validator(TrustSchema.load(NET), keychain.anchor, self._certificate)
        self.registrar = Registrar(self.endpoint, keychain.signer_for(self.me) if signs else None)
        self.registers = registers
        self.told: list[Publication] = []

    async def _dial(self) -> MemoryLink:
        return self.link

    async def _certificate(self, name: ndn.Name) -> bytes:
        data, _ = await self.endpoint.express(name, can_be_prefix=True, lifetime_ms=1000)
        return data.wire

    async def join(self, options: SyncOptions | None = None, *, observer: bool = False) -> SyncGroup:
        await self.endpoint.open()
        server = Server(self.endpoint, ObjectStore(1 << 20))
        server.answer_certificates(self.me, self.keychain.certificates)
        await self.registrar.register(self.me)
        self.group = SyncGroup(
            self.endpoint, self.validator, GROUP, me=self.me,
            signer=None if observer else self.keychain.signer_for(self.me),
            registrar=self.registrar if self.registers else None, on_publication=self.told.append,
            options=options or SyncOptions(seed=7),
        )  # fmt: skip
        await self.group.open()
        return self.group

    def contents(self) -> list[bytes]:
        return [one.content for one in self.told]

    async def close(self) -> None:
        await self.group.close()
        await self.registrar.close()
        await self.validator.aclose()
        await self.endpoint.close()


def link(one: MemoryNetwork, other: MemoryNetwork) -> tuple[Face, Face]:
    """A face at each of two forwarders, towards the other one."""
    loop = asyncio.get_running_loop()

    def face(at: MemoryNetwork, send: Callable[[bytes], object]) -> Face:
        made = Face(at.core.new_face_id(), "memory://neighbour", "memory://", LinkService(send))
        at.core.add_face(made)
        return made

    here = face(one, lambda wire: loop.call_later(0.005, other.receive, there, wire))
    there = face(other, lambda wire: loop.call_later(0.005, one.receive, here, wire))
    return here, there


def route(network: MemoryNetwork, prefix: ndn.Name, face: Face) -> None:
    network.core.rib.register(prefix, Route(face.id, 0, 0, CHILD_INHERIT))


@asynccontextmanager
async def stations(directory: Path, *labels: str, registers: bool = True) -> AsyncIterator[list[Station]]:
    keychain = keychain_in(directory, *LABELS)
    async with AsyncExitStack() as stack:
        network = MemoryNetwork()
        stack.callback(network.close)
        made = [Station(network, keychain, label, registers=registers) for label in labels]
        yield made
        for station in made:
            await station.close()


async def test_members_hear_each_other(tmp_path: Path) -> None:
    async with stations(tmp_path, "decode", "prefill", "tokenize") as (a, b, c):
        for station in (a, b, c):
            await station.join()
        assert a.group.hears and a.network.core.strategies.of(GROUP + ndn.version(3)).title == "MulticastStrategy"
        assert a.group.publish(b"offer of a") == 1
        assert b.group.publish(b"offer of b") == 1
        await until(lambda: len(a.told) == 1 and len(b.told) == 1 and len(c.told) == 2)
        assert a.contents() == [b"offer of b"] and b.contents() == [b"offer of a"]
        [told] = b.told
        assert (told.publisher, told.sequence, told.inner) == (a.me, 1, None)
        assert told.validated.identity == a.me and told.validated.rule == "sync_publication"
        assert {one.name for one in c.group.members()} == {a.me, b.me}
        a.group.publish(b"again")
        await until(lambda: b.contents()[-1:] == [b"again"] and c.contents()[-1:] == [b"again"])
        assert [one.sequence for one in b.told] == [1, 2]


async def test_over_three_forwarders(tmp_path: Path) -> None:
    """Each with one member, in a line; the ones at the ends have no route to each other's forwarder but hop by hop."""
    keychain = keychain_in(tmp_path, *LABELS)
    networks = [MemoryNetwork(seed=seed) for seed in range(3)]
    faces = [link(networks[at], networks[at + 1]) for at in (0, 1)]
    made = [Station(network, keychain, label) for network, label in zip(networks, LABELS, strict=False)]
    for at, (here, there) in enumerate(faces):
        for prefix in (packets.vector_name(GROUP), *(station.me for station in made[at + 1 :])):
            route(networks[at], prefix, here)
        for prefix in (packets.vector_name(GROUP), *(station.me for station in made[: at + 1])):
            route(networks[at + 1], prefix, there)
    for station in made:
        await station.join()
    for station in made:
        station.group.publish(b"of " + station.label.encode())
    await until(lambda: all(len(station.told) == 2 for station in made))
    assert made[0].told[0].publisher != made[0].told[1].publisher
    for station in made:
        await station.close()
    for network in networks:
        network.close()


async def test_a_large_publication_comes_in_segments(tmp_path: Path) -> None:
    content = bytes(range(256)) * 100
    async with stations(tmp_path, "decode", "prefill") as (a, b):
        for station in (a, b):
            await station.join()
        a.group.publish(content, name=a.me + ndn.generic("offer"), inner_signer=None)
        await until(lambda: bool(b.told))
        assert b.contents() == [content] and b.told[0].name == a.me + ndn.generic("offer") and not b.told[0].wire
        data, _ = await b.endpoint.express(packets.mapping_name(a.me, GROUP, a.group.core.boot, 1, 5))
        await b.validator.validate(data)
        assert decode_mapping(data.content) == (a.me, {1: a.me + ndn.generic("offer")})
        with pytest.raises(Nacked):
            await b.endpoint.express(packets.publication_name(a.me, GROUP, a.group.core.boot, 2))


async def test_topics_are_judged_by_mapping_data(tmp_path: Path) -> None:
    wanted = ndn.from_uri("/topic")
    async with stations(tmp_path, "decode", "prefill") as (a, b):
        await a.join()
        await b.join(SyncOptions(fetch=FetchOptions(newest_only=False, topics=(wanted,)), seed=1))
        for number in range(4):
            topic = wanted if number % 2 else ndn.from_uri("/other")
            a.group.publish(b"%d" % number, name=topic + ndn.generic(str(number)))
        await until(lambda: len(b.told) == 2)
        assert b.contents() == [b"1", b"3"]


async def test_all_that_was_published_or_only_the_newest(tmp_path: Path) -> None:
    async with stations(tmp_path, "decode", "prefill", "tokenize") as (a, b, c):
        await a.join()
        for number in range(6):
            a.group.publish(b"%d" % number)
        await b.join(SyncOptions(fetch=FetchOptions(newest_only=False, history=3), seed=1))
        await c.join()
        await until(lambda: len(b.told) == 3 and len(c.told) == 1)
        assert b.contents() == [b"3", b"4", b"5"] and c.contents() == [b"5"]


async def test_lost_announcements_are_made_up_for(tmp_path: Path) -> None:
    """The first two Interests to a member are lost; the repetition a second later is enough."""
    async with stations(tmp_path, "decode", "prefill") as (a, b):
        for station in (a, b):
            await station.join(SyncOptions(core=Options(repeat_s=0.3), seed=3))
        await asyncio.sleep(0.5)  # both have asked
        lost: list[bytes] = []

        def drop(wire: bytes) -> bytes | None:
            if wire[0] == 5 and b"\x04sync" in wire and len(lost) < 1:
                lost.append(wire)
                return None
            return wire

        b.link.tamper_down = drop
        a.group.publish(b"news")
        await until(lambda: bool(b.told))
        assert len(lost) == 1 and a.group.counts.sent >= 3


async def test_who_may_register_only_its_own_name_pulls(tmp_path: Path) -> None:
    """No multicast, no registration of the group: named members are pulled, and speak for others too."""
    async with stations(tmp_path, "decode", "prefill", "tokenize", registers=False) as (a, b, c):
        await a.join()
        a.group.publish(b"offer of a")
        await b.join(SyncOptions(peers=(a.me,), pull_s=0.1, seed=1))
        await until(lambda: bool(b.told))
        assert not b.group.hears and b.contents() == [b"offer of a"]
        await c.join()
        # What c cannot reach itself it gets from b, by forwarding hint: a is gone.
        await a.registrar.unregister(a.me)
        a.network.core.cs.erase(a.me + GROUP, 100)
        assert await c.group.pull(b.me) == 1
        await until(lambda: bool(c.told))
        assert c.told[0].publisher == a.me and c.told[0].validated.identity == a.me
        with pytest.raises((Nacked, Timeout)):
            await c.group.pull(role("embed"))


async def test_who_told_of_a_publication_need_not_have_it(tmp_path: Path) -> None:
    """One that keeps nothing of others is pulled: the second try goes to the publisher itself."""
    async with stations(tmp_path, "decode", "prefill", "tokenize", registers=False) as (a, b, c):
        await a.join()
        a.group.publish(b"offer of a")
        await b.join(SyncOptions(relay_bytes=0, seed=1))
        await b.group.pull(a.me)
        await until(lambda: bool(b.told))
        a.network.core.cs.erase(a.me + GROUP, 100)
        await c.join()
        assert await c.group.pull(b.me) == 1
        await until(lambda: c.contents() == [b"offer of a"])


async def test_a_large_state_is_pulled_in_parts(tmp_path: Path) -> None:
    async with stations(tmp_path, "decode", "prefill", registers=False) as (a, b):
        await a.join()
        await b.join(SyncOptions(fetch=FetchOptions(attempts=1), seed=1))
        now = asyncio.get_running_loop().time()
        a.group.core.learn(now, [Entry(role("embed", node=f"m{number}"), 7, 1) for number in range(600)])
        a.group.publish(b"offer")
        assert await b.group.pull(a.me) == 601
        assert {one.name for one in b.group.members()} == {one.name for one in a.group.members()}
        await until(lambda: b.contents() == [b"offer"] and b.group.fetching.counts.failed == 600)


async def test_under_zero_trust_registration(tmp_path: Path) -> None:
    """The forwarder grants nothing but what a certificate names: two members pull from each other."""
    keychain = keychain_in(tmp_path, *LABELS)
    network = MemoryNetwork(POLICY)
    guard = await under_policy(network, keychain)
    a, b = (Station(network, keychain, label, signs=True) for label in ("decode", "prefill"))
    for station, other in ((a, b), (b, a)):
        await station.join(SyncOptions(peers=(other.me,), pull_s=0.1, seed=1))
        assert not station.group.hears and GROUP not in network.core.fib
    for station in (a, b):
        station.group.publish(b"of " + station.label.encode())
    await until(lambda: a.contents() == [b"of prefill"] and b.contents() == [b"of decode"])
    assert a.group.counts.taken == b.group.counts.taken == 0, "nothing came by multicast"
    for station in (a, b):
        await station.close()
    await guard.aclose()
    await network.door.close()
    network.close()


async def test_strangers_change_nothing(tmp_path: Path) -> None:
    """A vector of another network's key, without a key, of another name, and a copy: verified before it is read."""
    foreign = keychain_in(tmp_path / "foreign", "decode").signer_for(role("decode"))
    async with stations(tmp_path / "own", "decode", "prefill") as (a, b):
        for station in (a, b):
            await station.join()
        own = a.keychain.signer_for(a.me)
        vector = StateMessage(encode_vector([Entry(role("embed"), 7, 9)]), None)
        name = packets.vector_name(GROUP)
        bad = [
            packets.sign_message(name, vector, foreign),
            packets.sign_message(ndn.from_uri("/elsewhere/v=3"), vector, own),
            packets.sign_message(name, StateMessage(b"\xc9\x05junk!", None), own),
            b"\x06\x03abc",
        ]
        for data in bad:
            a.endpoint.send_packed(packets.sync_interest(GROUP, data), 1)
        await until(lambda: b.group.counts.rejected == len(bad))
        assert role("embed") not in {one.name for one in b.group.members()}
        good = packets.sign_message(name, vector, own)
        for _ in range(3):
            a.endpoint.send_packed(packets.sync_interest(GROUP, good), 1)
            await asyncio.sleep(0.05)
        await until(lambda: b.group.counts.copies >= 1)
        assert role("embed") in {one.name for one in b.group.members()}


async def test_a_publication_by_another_key_is_not_delivered(tmp_path: Path) -> None:
    async with stations(tmp_path, "decode", "prefill") as (a, b):
        await a.join()
        await b.join(SyncOptions(fetch=FetchOptions(attempts=1), seed=1))
        other = a.keychain.signer_for(role("prefill"))
        outer = packets.publication_name(a.me, GROUP, a.group.core.boot, 1)
        forged = packets.encapsulate(outer, outer, b"not mine", other, None)
        a.group._own.add(a.group.core.boot, 1, outer, forged)
        a.group._act(a.group.core.publish(asyncio.get_running_loop().time()))
        await until(lambda: b.group.fetching.counts.failed == 1)
        assert not b.told and b.group.fetching.counts.rejected == 1
        a.group.publish(b"mine")
        await until(lambda: b.contents() == [b"mine"])


async def test_an_observer_hears_and_says_nothing(tmp_path: Path) -> None:
    async with stations(tmp_path, "decode", "prefill") as (a, b):
        await a.join()
        await b.join(observer=True)
        a.group.publish(b"offer")
        await until(lambda: bool(b.told))
        await asyncio.sleep(0.3)
        assert b.group.counts.sent == 0 and [one.name for one in b.group.members()] == [a.me]


async def test_nothing_is_left_when_a_group_is_closed(tmp_path: Path) -> None:
    async with stations(tmp_path, "decode", "prefill") as (a, b):
        for station in (a, b):
            await station.join(SyncOptions(peers=(role("embed"),), seed=1))
        a.group.publish(b"offer")
        await until(lambda: bool(b.told))
        before = asyncio.all_tasks()
        await a.group.close()
        assert len(asyncio.all_tasks()) < len(before) and GROUP not in a.registrar.prefixes
        with pytest.raises(Nacked):
            await b.endpoint.express(packets.publication_name(a.me, GROUP, a.group.core.boot, 9))


async def test_a_vector_signed_by_ourselves_is_one_packet(tmp_path: Path) -> None:
    keychain = keychain_in(tmp_path, "decode")
    entries = [Entry(role("decode", node=f"n{number}"), 1_700_000_000, 1_000_000) for number in range(103)]
    content = encode_vector(entries)
    wire = packets.sign_message(
        packets.vector_name(GROUP), StateMessage(content, None), keychain.signer_for(role("decode"))
    )  # fmt: skip
    assert decode_data(wire).content == content and len(packets.sync_interest(GROUP, wire)) <= 8800
