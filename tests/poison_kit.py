"""Poison: a network of two forwarders with a hostile router in the middle, and what came out of it.

Owns: where attacks are made, and the judgement of what a reader got. Runs in virtual time: a lost packet costs nothing,
and a seed makes the same attacks again (all but those on Interests, whose Nonces are drawn elsewhere).
Must not know: what an attack changes (poison_attacks.py), how the fetcher does its work (only its public side is used).
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ndn_infer import clock, ndn, records
from ndn_infer.config import CallConfig, FetchConfig
from ndn_infer.errors import NdnInferError
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.namespace import Result
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.records import CallAnswer, GenerateRequest, TokenEvent
from ndn_infer.security.crypto import ECDSA
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.link.endpoint import Endpoint, ReceivedInterest
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.certificates import certificate_fetcher
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, ObjectPackets, absent
from ndn_infer.wire.peek import data_name
from tests.fuzz.mutator import mutate_bytes
from tests.harness import NET, role
from tests.poison_attacks import Material, Outcome, attack
from tests.poison_objects import SHAPES, Target, all_packets, renumbered

T = TypeVar("T")
CONFIG: Final = replace(FetchConfig(), stream_idle_s=10.0)
QUIET_S: Final = 5.0
"""Virtual seconds after which nothing of an episode is on its way any more."""
MODEL: Final = "ab" * 32
OBJECTS: Final = NET + ndn.generic("corpus")

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
        material = Material(all_packets(new), renumbered(old, new), [], gone, self.liars)
        return Target(base, contents, new, material)

    def new_validator(self) -> Validator:
        """One that knows the anchor and must fetch every other certificate, through the router."""
        fetch = certificate_fetcher(self.endpoints[0])
        return Validator(self.schema, self.keys.anchor, fetch, monotonic=clock.monotonic)

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
