"""Poison: what a hostile router, cache or rival can do to the packets of an object, and a network to do it in.

    python -m tests.poison_kit 10000 SEED      random attacks, a table of what stopped them

Owns: attacks as pure functions on Data packets, a network of two forwarders with a router in the middle, and the
judgement of what came out. Runs in virtual time: a lost packet costs nothing, and a seed makes the same attacks again
(all but those on Interests, whose Nonces are drawn elsewhere).
Must not know: how the fetcher does its work (only its public side is used).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import selectors
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest import mock

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, FetchConfig
from ndn_infer.errors import BadPacket, NdnInferError
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.namespace import Result
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import CONTENT_NACK, DIGEST_INFO, Data, decode_data, encode_data, encode_interest
from ndn_infer.records import CallAnswer, GenerateRequest, TokenEvent
from ndn_infer.security.crypto import ECDSA, ED25519, Signer
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.link.endpoint import Endpoint, ReceivedInterest
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.certificates import certificate_fetcher
from ndn_infer.wire.manifest import (
    MANIFEST,
    MAX_OBJECT_BYTES,
    Manifest,
    ObjectPackets,
    absent,
    build_object,
    decode_manifest,
    encode_manifest,
    seal_stream,
)
from ndn_infer.wire.peek import data_name
from tests.fuzz.mutator import mutate_bytes, mutate_elements
from tests.harness import NET, role

T = TypeVar("T")

CONFIG: Final = replace(FetchConfig(), stream_idle_s=10.0)
QUIET_S: Final = 5.0
"""Virtual seconds after which nothing of an episode is on its way any more."""
MODEL: Final = "ab" * 32
OBJECTS: Final = NET + ndn.generic("corpus")


# ---------------------------------------------------------------- virtual time


class _Clock(selectors.SelectSelector):
    """Nothing here waits for files: instead of sleeping, time jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits and nothing will ever happen")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def run_virtual(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work()` in a loop of its own; `time.monotonic` is that loop's clock meanwhile. What a callback
    raises, and nobody awaits, is raised here."""
    loop = VirtualLoop()
    crashes: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: crashes.append(context))
    try:
        with mock.patch("time.monotonic", loop.time):
            result = loop.run_until_complete(asyncio.ensure_future(work(), loop=loop))
    finally:
        loop.close()
    if crashes:
        raise AssertionError(f"{len(crashes)} callbacks failed: {crashes[0]}") from crashes[0].get("exception")
    return result


# ---------------------------------------------------------------- attacks on one Data packet


@dataclass(frozen=True)
class Material:
    """What an attacker has at hand: every packet of this object, of its older version and of other objects, and keys:
    one of a role that may not sign this, one of an impostor's network of the same name."""

    current: dict[Name, bytes]
    older: dict[Name, bytes]
    others: list[bytes]
    absent: bytes
    liars: list[Signer]


Outcome = list[tuple[float, bytes]]
"""What goes on instead of the packet: (seconds later, packet)."""
Attack = Callable[[random.Random, Data, Material], list[bytes]]


def forged(data: Data, content: bytes, *, signer: Signer | None = None, **changes: Any) -> bytes:
    """A packet of this name with another content, and a signature that is right for what it is."""
    fields: dict[str, Any] = {"freshness_ms": data.freshness_ms, "final_block": data.final_block}
    fields.update({"content_type": data.content_type, **changes})
    make = encode_data if signer is None else signer.sign_data
    try:
        return make(data.name, content, **fields)
    except BadPacket:  # too large
        return encode_data(data.name, content[:4000])


def flip(wire: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(wire)
    changed[at] ^= 1 << bit
    return bytes(changed)


def _flip(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [flip(data.wire, rng.randrange(len(data.wire)), rng.randrange(8))]


def _flip_content(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    if not data.content:
        return _flip(rng, data, has)
    return [forged(data, flip(data.content, rng.randrange(len(data.content)), rng.randrange(8)))]


def _truncate(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [data.wire[: rng.randrange(1, len(data.wire))]]


def _shorten(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """Cut the content; the packet is in order otherwise."""
    return [forged(data, data.content[: rng.randrange(len(data.content) + 1)])]


def _extend(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [data.wire + rng.randbytes(rng.randint(1, 20)) if rng.random() < 0.5 else forged(data, data.content + b"x")]


def _twice(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [data.wire, data.wire]


def _sibling(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [rng.choice(list(has.current.values()))]


def _swap(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """Another segment's content under this name."""
    return [forged(data, decode_data(rng.choice(list(has.current.values()))).content)]


def _older(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [has.older.get(data.name, data.wire)]


def _older_renamed(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    old = has.older.get(data.name)
    return [data.wire if old is None else forged(data, decode_data(old).content)]


def _other_object(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [rng.choice(has.others)]


def _other_renamed(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, decode_data(rng.choice(has.others)).content)]


def _absent(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """The producer's own word of long ago that there is no such object."""
    return [has.absent if METADATA in data.name else data.wire]


def _nack_type(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, b"", content_type=CONTENT_NACK, signer=rng.choice([None, *has.liars]))]


def _random_content(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, rng.randbytes(len(data.content)))]


def _wrong_key(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, rng.randbytes(len(data.content)), signer=rng.choice(has.liars))]


def _right_name_wrong_key(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """Another content signed by another key under the locator of the right one."""
    liar = replace(rng.choice(has.liars), info=data.signature_info)
    return [forged(data, data.content[::-1], signer=liar)]


def _unsigned(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [encode_data(data.name, data.content[::-1], info=DIGEST_INFO, final_block=data.final_block)]


def _end_moved(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    final = ndn.segment(rng.choice((0, 1, 2, 1 << 20, (1 << 64) - 1)))
    return [forged(data, data.content, final_block=final, signer=rng.choice([None, *has.liars]))]


def _manifest_lie(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """A manifest that says something else: sizes, counts, digests, names; by a key that may not say so."""
    if METADATA not in data.name:
        return _swap(rng, data, has)
    try:
        manifest = decode_manifest(data)
    except BadPacket:
        return _random_content(rng, data, has)
    lies: list[dict[str, Any]] = [
        {"size": rng.choice((0, 1, manifest.size + 1, 1 << 40))},
        {"segments": rng.choice((1, manifest.segments + 1, 50_000))},
        {"digests": rng.randbytes(len(manifest.digests)), "inline": None},
        {"manifest_digests": rng.randbytes(32), "digests": b"", "inline": None},
        {"inline": rng.randbytes(min(manifest.size, 4000))},
        {"name": ndn.prefix(manifest.name, -1) + ndn.version(7)},
        {"name": NET + ndn.generic("elsewhere") + ndn.version(7)},
    ]
    lie = replace(manifest, **rng.choice(lies))
    return [forged(data, encode_manifest(lie), signer=rng.choice([None, *has.liars]))]


def _mutate(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [mutate_bytes(rng, data.wire, has.others)[: tlv.MAX_PACKET_BYTES] or b"\0"]


def _mutate_element(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [mutate_elements(rng, data.wire, has.others)[: tlv.MAX_PACKET_BYTES] or b"\0"]


def _drop(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return []


def _noise(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [rng.randbytes(rng.randint(1, 200))]


def _refuse(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """A Nack in the place of Data."""
    discovery = METADATA in data.name
    name = ndn.prefix(data.name, -2) if discovery else data.name
    wire, _ = encode_interest(name, nonce=rng.randbytes(4), can_be_prefix=discovery, must_be_fresh=discovery)
    reason = rng.choice((0, lp.REASON_CONGESTION, lp.REASON_DUPLICATE, lp.REASON_NO_ROUTE))
    return [lp.encode_lp(lp.LpPacket(wire, nack_reason=reason))]


def _mark(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [lp.encode_lp(lp.LpPacket(data.wire, congestion_mark=1))]


ATTACKS: Final[dict[str, Attack]] = {
    "flip": _flip, "flip-content": _flip_content, "truncate": _truncate, "shorten": _shorten, "extend": _extend,
    "duplicate": _twice, "sibling": _sibling, "swap": _swap, "older": _older, "older-renamed": _older_renamed,
    "other-object": _other_object, "other-renamed": _other_renamed, "absent": _absent, "nack-type": _nack_type,
    "random-content": _random_content, "wrong-key": _wrong_key, "right-locator": _right_name_wrong_key,
    "unsigned": _unsigned, "end-moved": _end_moved, "manifest-lie": _manifest_lie, "mutate": _mutate,
    "mutate-element": _mutate_element, "drop": _drop, "noise": _noise, "refuse": _refuse, "mark": _mark,
}  # fmt: skip
"""Beside these the router holds packets back (reorder), and drops, alters and refuses Interests."""
"""What the right key did sign, once. Nobody can tell; the fetcher may be sent after an object that is gone."""


def attack(kind: str, rng: random.Random, wire: bytes, has: Material) -> Outcome:
    if kind == "reorder":
        return [(rng.choice((0.001, 0.05, 0.5, 2.0)), wire)]
    return [(0.0, changed) for changed in ATTACKS[kind](rng, decode_data(wire), has)]


# ---------------------------------------------------------------- objects


def cut(base: Name, version: int, content: bytes, size: int, sign: Any, *, levels: int = 1) -> ObjectPackets:
    """An object like those of `build_object`, in segments of `size` bytes, with its manifest in one or two levels:
    small ones reach every line of the fetcher with few bytes."""
    name = base + ndn.version(version)
    packets: dict[Name, bytes] = {}

    def segments(below: Name, body: bytes, piece: int) -> bytes:
        count = -(-len(body) // piece)
        wires = [
            encode_data(
                below + ndn.segment(number),
                body[number * piece : (number + 1) * piece],
                freshness_ms=3_600_000,
                final_block=ndn.segment(count - 1),
            )
            for number in range(count)
        ]
        packets.update((below + ndn.segment(number), wire) for number, wire in enumerate(wires))
        return b"".join(hashlib.sha256(wire).digest() for wire in wires)

    digests = segments(name, content, size)
    upper = segments(base + MANIFEST + ndn.version(version), digests, 8000) if levels == 2 else b""
    manifest = Manifest(name, len(content), len(digests) // 32, digests, upper)
    metadata_name = base + METADATA + ndn.version(version) + ndn.segment(0)
    wire = sign(metadata_name, encode_manifest(manifest), freshness_ms=3_600_000, final_block=ndn.segment(0))
    return ObjectPackets(base, manifest, wire, metadata_name, packets)


def sealed(base: Name, version: int, content: bytes, size: int, sign: Any) -> ObjectPackets:
    """What a finished stream leaves: segments signed by its key, a manifest over them."""
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    name = base + ndn.version(version)
    wires = [sign(name + ndn.segment(n), piece, freshness_ms=3_600_000) for n, piece in enumerate(pieces)]
    return seal_stream(base, version, [decode_data(wire) for wire in wires], sign)


def all_packets(packets: ObjectPackets) -> dict[Name, bytes]:
    return {packets.metadata_name: packets.metadata, **packets.packets}


@dataclass(frozen=True)
class Target:
    """One published object: both versions that its producer ever signed."""

    base: Name
    contents: dict[Name, bytes]
    packets: ObjectPackets
    material: Material

    @property
    def newest(self) -> bytes:
        return self.contents[self.packets.manifest.name]


Build = Callable[[Name, int, bytes, Any], ObjectPackets]
SHAPES: Final[dict[str, tuple[int, Build]]] = {
    "inline": (100, build_object),
    "three": (700, lambda base, version, content, sign: cut(base, version, content, 250, sign)),
    "two-level": (700, lambda base, version, content, sign: cut(base, version, content, 150, sign, levels=2)),
    "sealed": (400, lambda base, version, content, sign: sealed(base, version, content, 100, sign)),
    "real": (17_000, build_object),
    "many": (5200, lambda base, version, content, sign: cut(base, version, content, 20, sign, levels=2)),
}
"""Sizes in bytes. "many" has 260 segments and two manifest segments."""
QUICK: Final = ("inline", "three", "two-level", "sealed")


def _renumbered(packets: ObjectPackets, like: ObjectPackets) -> dict[Name, bytes]:
    """The packets of one version by the names of the same packets of another."""
    old, new = packets.manifest.name, like.manifest.name
    moved = {new + name[len(old) :]: wire for name, wire in packets.packets.items()}
    return {like.metadata_name: packets.metadata, **moved}


# ---------------------------------------------------------------- the network


KEY: Final = ndn.generic("KEY")
LIVE: Final = ndn.generic("result")


@dataclass
class Plan:
    """What is attacked in one episode. `chosen` sees the names of Data; `left` attacks are made, at most `per_name` on
    packets of one name, each with `chance`; at `spots`: "edge" (after every cache), "core" (between both forwarders),
    "origin" (before both), "rival". `exact` is made instead of random
    ones."""

    rng: random.Random
    material: Material
    kinds: tuple[str, ...] = ()
    spots: tuple[str, ...] = ("edge",)
    left: int = 1
    per_name: int = 2
    chance: float = 0.5
    interests: bool = False
    chosen: Callable[[Name], bool] = lambda name: True
    exact: Callable[[bytes], bytes | None] | None = None
    made: list[tuple[str, str, Name]] = field(default_factory=list)

    def meet(self, spot: str, wire: bytes) -> Outcome | None:
        """What becomes of a packet at `spot`; None to let it pass."""
        if self.left <= 0 or spot not in self.spots or wire[:1] not in (b"\x05", b"\x06"):
            return None
        if wire[0] == tlv.INTEREST and not self.interests:
            return None
        name = data_name(wire) if wire[0] == tlv.DATA else packet.decode_interest(wire).name
        if not name.startswith(NET) or not self.chosen(name) or self.rng.random() >= self.chance:
            return None
        if sum(known == name for _, _, known in self.made) >= self.per_name:
            return None
        kind, outcome = self._outcome(wire)
        if outcome == [(0.0, wire)]:
            return None
        self.left -= 1
        self.made.append((kind, spot, name))
        return outcome

    def _outcome(self, wire: bytes) -> tuple[str, Outcome]:
        if self.exact is not None:
            changed = self.exact(wire)
            return "exact", [] if changed is None else [(0.0, changed)]
        if wire[0] == tlv.INTEREST:
            if self.rng.random() < 0.3:
                return "interest-drop", []
            return "interest-mutate", [(0.0, mutate_bytes(self.rng, wire, self.material.others)[:8800] or b"\0")]
        kind = self.rng.choice(self.kinds)
        return kind, attack(kind, self.rng, wire, self.material)


def _hand_over(link: MemoryLink, wire: bytes) -> None:
    link.receiver((wire,))


class World:
    """consumer - forwarder - router (`plan`) - forwarder - producer, with one Content Store in each forwarder."""

    def __init__(self, keys: Keychain, impostor: Keychain) -> None:
        self.plan: Plan | None = None
        self.keys = keys
        self.rag, self.decode = keys.signer_for(role("rag")), keys.signer_for(role("decode"))
        self.liars = [keys.signer_for(role("user")), impostor.signer_for(role("rag"))]
        self.networks = MemoryNetwork(seed=1), MemoryNetwork(seed=2)
        self.schema = TrustSchema.load(NET)
        self.endpoints: list[Endpoint] = []
        self.links: list[MemoryLink] = []
        self.checks: Counter[str] = Counter()
        self._events: list[TokenEvent] = []
        self._running: dict[Name, Name] = {}
        self._pace_s = 0.1

    async def open(self) -> World:
        near, far = self.networks
        consumer, producer = await self._application(near), await self._application(far)
        inner, outer = near.attach(), far.attach()
        inner.receiver = lambda packets: outer.send(*packets)
        outer.receiver = lambda packets: inner.send(*packets)
        self.relay = inner
        for network, link in ((near, inner), (far, self.links[1])):
            network.core.rib.register(NET, Route(link.face.id, 0, 0, CHILD_INHERIT))
        for spot, link in (("edge", self.links[0]), ("core", outer), ("core", inner)):
            link.tamper_down = self._tamper(spot, partial(_hand_over, link))
        for spot, link, network in (("edge", self.links[0], near), ("origin", self.links[1], far)):
            link.tamper_up = self._tamper(spot, partial(network.receive, link.face))
        self.server = Server(producer, ObjectStore(1 << 30))
        self.server.answer_certificates(NET, self.keys.certificates)
        self.server.serve(OBJECTS, self.rag)
        self.server.serve(NET + ndn.generic("model"), self.decode, self._on_call)
        await Registrar(consumer).enable_local_fields()
        rival = await self._application(near)
        rival.attach(OBJECTS, self._on_rival)
        self.targets = {shape: self._publish(index, shape) for index, shape in enumerate(SHAPES)}
        wires = {shape: list(all_packets(target.packets).values()) for shape, target in self.targets.items()}
        for shape, target in self.targets.items():
            target.material.others.extend(wire for other in SHAPES if other != shape for wire in wires[other][:8])
        self.validator = self.new_validator()
        return self

    async def close(self) -> None:
        await self.validator.aclose()
        for endpoint in self.endpoints:
            await endpoint.close()
        for network in self.networks:
            network.close()

    async def _application(self, network: MemoryNetwork) -> Endpoint:
        async def dial() -> MemoryLink:
            self.links.append(network.attach())
            return self.links[-1]

        endpoint = Endpoint(dial)
        await endpoint.open()
        self.endpoints.append(endpoint)
        return endpoint

    def _publish(self, index: int, shape: str) -> Target:
        size, build = SHAPES[shape]
        base = Result("corpus", MODEL, "lookup", f"{index:064x}").to_name(NET)
        rng = random.Random(shape)
        old, new = (build(base, number, rng.randbytes(size), self.rag.sign_data) for number in (1000, 2000))
        contents = {packets.manifest.name: _content(packets) for packets in (old, new)}
        self.server.put(new)
        gone = absent(base, 500, self.rag.sign_data)
        material = Material(all_packets(new), _renumbered(old, new), [], gone, self.liars)
        return Target(base, contents, new, material)

    def new_validator(self) -> Validator:
        """One that knows the anchor and must fetch every other certificate, through the router."""
        fetch = certificate_fetcher(self.endpoints[0])
        return Validator(self.schema, self.keys.anchor, fetch, monotonic=time.monotonic)

    # ------------------------------------------------------------ the router, and a rival

    def admit_rival(self) -> None:
        """From now on the nearer route to every object leads to somebody who makes all of it up (spot "rival"), and who
        is silent when the plan has no attacks left."""
        near, face = self.networks[0], self.links[2].face
        near.core.rib.register(OBJECTS, Route(face.id, 0, 0, CHILD_INHERIT))
        near.core.rib.register(OBJECTS, Route(self.relay.face.id, 0, 10, CHILD_INHERIT))

    def _on_rival(self, request: ReceivedInterest) -> None:
        name = request.interest.name
        honest = self.server.store.find(name, can_be_prefix=request.interest.can_be_prefix)
        if honest is None and name[-34] == ndn.IMPLICIT_DIGEST:
            honest = self.server.store.find(name[:-34], can_be_prefix=False)
        outcome = self.plan.meet("rival", honest) if self.plan and honest else None
        for _, changed in outcome or ():
            request.reply(changed)

    def _tamper(self, spot: str, deliver: Callable[[bytes], None]) -> Callable[[bytes], bytes | None]:
        def tamper(wire: bytes) -> bytes | None:
            header = lp.decode_lp(wire)
            outcome = self.plan.meet(spot, header.fragment) if self.plan and header.nack_reason is None else None
            if outcome is None:
                return wire
            loop = asyncio.get_running_loop()
            for later, changed in outcome:
                loop.call_later(later, deliver, changed)
            return None

        return tamper

    # ------------------------------------------------------------ episodes

    async def fetch(self, target: Target, plan: Plan | None = None, *, stranger: bool = False) -> str:
        """Fetch `target` while `plan` is at work, with caches empty before: "complete", "older" (a version that its
        producer did sign) or the declared error's name. Raises WrongBytes; anything undeclared goes through.

        A `stranger` does not know the producer's certificate yet."""
        validator = self.new_validator() if stranger else self.validator
        fetcher = Fetcher(self.endpoints[0], validator, CONFIG)
        try:
            with self._under(plan):
                fetched = await fetcher.fetch(target.base, most=MAX_OBJECT_BYTES)
        except NdnInferError as error:
            return error.kind
        finally:
            await self._rest(fetcher)
            if stranger:
                await validator.aclose()
        if target.contents.get(fetched.name) != fetched.content or fetched.signed_by.identity != role("rag"):
            raise WrongBytes(f"{ndn.to_uri(fetched.name)}: {len(fetched.content)} bytes that nobody published")
        return "complete" if fetched.name == target.packets.manifest.name else "older"

    async def stream(self, run: int, events: int, plan: Plan | None = None, *, pace_s: float = 0.1) -> str:
        """The same with a call that answers with a live stream of `events`, made while it is read, one in `pace_s`."""
        fetcher = Fetcher(self.endpoints[0], self.validator, CONFIG)
        caller = Caller(self.endpoints[0], self.validator, fetcher, NET, config=CallConfig(), fetch=CONFIG)
        self._pace_s = pace_s
        self._events = [TokenEvent((run, number)) for number in range(events)]
        request = GenerateRequest(prompt=(run,))
        got: list[TokenEvent] = []
        try:
            with self._under(plan):
                async for event, _ in caller.stream(Ask(("model", MODEL), "generate", request), TokenEvent):
                    got.append(event)
        except NdnInferError as error:
            return error.kind
        finally:
            await self._rest(fetcher)
            if got != self._events[: len(got)]:
                raise WrongBytes(f"events {got} of {events}")
        if len(got) != events:
            raise WrongBytes(f"{len(got)} of {events} events, and no error")
        return "complete"

    def _on_call(self, request: ReceivedInterest) -> None:
        """Any call starts a stream of `_events`, unless it runs already; the stream goes on at its pace."""
        if request.interest.parameters is None:
            return
        base = Result("model", MODEL, "generate", f"{self._events[0].ids[0]:064x}").to_name(NET)
        if base not in self._running:
            stream = self.server.open_stream(base, self.decode)
            self._running[base] = stream.name
            asyncio.get_running_loop().create_task(self._produce(stream))
        answer = CallAnswer(result=ndn.to_uri(self._running[base]), stream=True)
        name, content = request.interest.name, records.encode(answer)
        request.reply(self.decode.sign_data(name, content, freshness_ms=1000))

    async def _produce(self, stream: LiveStream) -> None:
        events = self._events
        for number, event in enumerate(events, 1):
            stream.append(records.encode(event), final=number == len(events))
            if self._pace_s:
                await asyncio.sleep(self._pace_s)

    @contextmanager
    def _under(self, plan: Plan | None) -> Iterator[None]:
        """`plan` at work; what refused packets is counted in `checks`."""
        before = self._counters()
        listener = _Listener(self.checks)
        logging.getLogger("ndn_infer").addHandler(listener)
        self.plan = plan
        try:
            yield
        finally:
            self.plan = None
            logging.getLogger("ndn_infer").removeHandler(listener)
            after = self._counters()
            self.checks.update({check: after[check] - before[check] for check in after if after[check] > before[check]})

    def _counters(self) -> Counter[str]:
        """Refusals that are counted where they happen."""
        counts: Counter[str] = Counter()
        for network in self.networks:
            core = network.core
            counts["forwarder: unsolicited"] += core.counters.unsolicited
            counts["forwarder: malformed"] += sum(face.counters.malformed for face in core.faces.values())
        stats = self.endpoints[0].stats
        counts["consumer: unsolicited"], counts["consumer: malformed"] = stats.unsolicited, stats.malformed
        return counts

    async def _rest(self, fetcher: Fetcher) -> None:
        """Nothing of this episode is left for the next one."""
        stats = fetcher.stats
        self.checks.update({"fetcher: timeout": stats.timeouts, "fetcher: nack": stats.nacks})
        self.checks.update({"fetcher: duplicate": stats.duplicates})
        await asyncio.sleep(QUIET_S)
        for network in self.networks:
            network.core.cs.erase(NET, 1 << 30)


class WrongBytes(AssertionError):
    """Bytes were accepted that no honest producer published under that name."""


class _Listener(logging.Handler):
    """Counts which declared error refused a packet."""

    def __init__(self, checks: Counter[str]) -> None:
        super().__init__(logging.WARNING)
        self._checks = checks

    def emit(self, record: logging.LogRecord) -> None:
        for value in record.args if isinstance(record.args, tuple) else ():
            if isinstance(value, NdnInferError):
                self._checks[f"fetcher: {value.kind}"] += 1


def _content(packets: ObjectPackets) -> bytes:
    segments = packets.manifest.segments
    return b"".join(decode_data(packets.packets[packets.manifest.segment_name(n)]).content for n in range(segments))


def _keys(folder: Path, kind: str, *labels: str) -> Keychain:
    keys = Keychain.open_or_create(folder, NET, kind=kind)
    keys.ensure(*map(role, labels), kind=kind)
    return keys


def in_world(work: Callable[[World], Awaitable[T]], *, kind: str = ECDSA) -> T:
    """The result of `work(world)`, in virtual time and a fresh world. With ED25519 all sizes are the same every time,
    so that a seed makes the same attacks again."""

    async def whole() -> T:
        with tempfile.TemporaryDirectory() as folder:
            keys = _keys(Path(folder) / "keys", kind, "rag", "decode", "user")
            world = await World(keys, _keys(Path(folder) / "impostor", kind, "rag")).open()
        try:
            return await work(world)
        finally:
            await world.close()

    logger = logging.getLogger("ndn_infer")
    propagate, logger.propagate = logger.propagate, False
    try:
        return run_virtual(whole)
    finally:
        logger.propagate = propagate


# ---------------------------------------------------------------- random attacks


@dataclass
class Report:
    """Of a run of random attacks. `findings` are what must not be: each with the seed of its episode."""

    attacks: int = 0
    episodes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"{self.attacks} attacks in {self.episodes} episodes"]
        lines += [f"  {count:6d}  {outcome}" for outcome, count in self.outcomes.most_common()]
        lines += ["what stopped them (all episodes):"]
        lines += [f"  {count:6d}  {check}" for check, count in self.checks.most_common() if count]
        lines += ["what a single attack met first, by kind:"]
        for kind, met in sorted(self.by_kind.items()):
            lines.append(f"  {kind:16s} " + ", ".join(f"{check} {count}" for check, count in met.most_common()))
        return "\n".join([*lines, *self.findings])


KINDS: Final = (*ATTACKS, "reorder")
CHANCE_OF: Final = {"inline": 10, "three": 25, "two-level": 25, "sealed": 15, "real": 10, "many": 1, "live": 14}


async def _episode(world: World, seed: int, report: Report, room: int) -> None:
    rng = random.Random(seed)
    shape = rng.choices(list(CHANCE_OF), list(CHANCE_OF.values()))[0]
    live = shape == "live"
    target = world.targets["three" if live else shape]
    endless = rng.random() < 0.05
    left = room if endless else min(room, 1 if rng.random() < 0.6 else rng.randint(2, 8))
    spots = rng.choice([("edge",), ("core",), ("origin",), ("edge", "core", "origin")])
    plan = Plan(rng, target.material, KINDS, spots, left, per_name=room if endless else 2)
    plan.interests = rng.random() < 0.2
    world.checks.clear()
    try:
        if live:
            outcome = await world.stream(seed, rng.randint(1, 12), plan, pace_s=rng.choice((0.0, 0.1)))
        else:
            outcome = await world.fetch(target, plan, stranger=rng.random() < 0.1)
    except Exception as error:  # whatever comes out beside a declared error is what we look for
        outcome = f"{type(error).__name__}: {error}"
        report.findings.append(f"seed {seed}: {outcome} ({shape}, {plan.made})")
    report.episodes += 1
    report.attacks += len(plan.made)
    report.checks.update(world.checks)
    excuse = "attacked without end" if endless else ""
    good = outcome in ("complete", "older")
    report.outcomes[outcome if good or not excuse else f"{outcome} ({excuse})"] += 1
    if not good and not excuse:
        report.findings.append(f"seed {seed}: {outcome}, and an honest source was there ({shape}, {plan.made})")
    if len(plan.made) == 1:
        unseen = "caller: asked again" if live and LIVE not in plan.made[0][2] else "nothing: harmless"
        first = next((check for check, count in world.checks.items() if count > 0), unseen)
        report.by_kind.setdefault(plan.made[0][0], Counter())[first] += 1


async def attack_randomly(world: World, attacks: int, seed: int) -> Report:
    """At least so many attacks; the episodes' seeds begin with `seed` times a million."""
    report = Report()
    number = 0
    while report.attacks < attacks:
        await _episode(world, seed * 1_000_000 + number, report, 1000)
        number += 1
    return report


def main(arguments: list[str]) -> int:
    attacks, seed = (
        (int(text) for text in (*arguments, "10000", "1")[:2]) if len(arguments) != 1 else (int(arguments[0]), 1)
    )
    report = in_world(lambda world: attack_randomly(world, attacks, seed), kind=ED25519)
    print(report.text())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
