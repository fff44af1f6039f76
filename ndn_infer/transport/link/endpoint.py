"""An application's end of the network: Interests out, Data back to whoever asked, Interests in to whoever serves.

Owns: the table of pending Interests, dispatch of incoming Interests by longest prefix, NDNLPv2 headers of one link,
and the connection's life (reconnect, registering again). Must not know: objects, records, who is to be believed: it
delivers packets, the caller verifies them. A Data packet that fails verification leaves the Interest to its sender,
who asks again; one bad packet ends nothing here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import BadPacket, Nacked, NoForwarder, Timeout
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data, Interest, decode_data, decode_interest, encode_interest
from ndn_infer.ndn.tlv import Framer, Frames
from ndn_infer.transport.link.coming import Coming
from ndn_infer.transport.link.detour import Detour
from ndn_infer.transport.link.exchange import BARE, EndpointStats, Handler
from ndn_infer.transport.link.exchange import Arrival as Arrival
from ndn_infer.transport.link.exchange import OnData as OnData
from ndn_infer.transport.link.exchange import OnNack as OnNack
from ndn_infer.transport.link.exchange import Pending as Pending
from ndn_infer.transport.link.exchange import ReceivedInterest as ReceivedInterest
from ndn_infer.transport.link.links import Link
from ndn_infer.transport.link.numbered import NumberedTable
from ndn_infer.transport.link.ready import Ready
from ndn_infer.wire.peek import data_name

log = logging.getLogger(__name__)

REDIAL_PAUSE_S: Final = 0.1
MAX_REDIAL_PAUSE_S: Final = 5.0
PATIENT_AFTER_S: Final = 30.0
"""A forwarder that restarts is back within seconds; one that is gone longer is asked less often."""
EXPRESS_AGAIN_S: Final = 0.3
LIFETIME_SLACK_S: Final = 0.05
"""An Interest is kept a little longer than its lifetime: Data that was on its way is not thrown away."""


class Endpoint:
    """One application face. `dial` makes a new link; it is called again when the link is lost.

    `trace`, when set, is called with ("interest" | "data" | "nack", name, arrival or None) for every exchange.
    """

    def __init__(self, dial: Callable[[], Awaitable[Link]]) -> None:
        self._dial = dial
        self._link: Link | None = None
        self._exact: dict[Name, list[Pending]] = {}
        self._prefix: dict[Name, list[Pending]] = {}
        self.numbered = NumberedTable()
        """Who is given all Data named `<prefix>/seg=<n>`; sends its Interests with `send_packed`."""
        self._handlers: dict[Name, Handler] = {}
        self.answer_from(_nothing, _nothing)
        self._after_packets: list[Callable[[], None]] = []
        self._local = True
        self._reconnect: asyncio.Task[None] | None = None
        self._on_connected: list[Callable[[], Awaitable[None]]] = []
        self._on_lost: list[Callable[[], None]] = []
        self.stats = EndpointStats()
        self.trace: Callable[[str, Name, Arrival | None], None] | None = None
        self.detour: Detour | None = None
        """For Interests that no route leads for; None: whoever sent one is told."""
        self.closed = False
        self._receiving = False

    # ------------------------------------------------------------ connection

    async def open(self) -> None:
        """Connect. Raises NoForwarder."""
        self._use(await self._dial())

    def on_connected(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` after every re-connection (registering prefixes again, for example)."""
        self._on_connected.append(action)

    def on_lost(self, action: Callable[[], None]) -> None:
        """Run `action` whenever the link is lost; dialling has begun by then."""
        self._on_lost.append(action)

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def local(self) -> bool:
        """Whether the forwarder is on this host, by the link's address; of the last link while there is none."""
        return self._local

    async def close(self) -> None:
        self.closed = True
        if self._reconnect is not None:
            self._reconnect.cancel()
            await asyncio.gather(self._reconnect, return_exceptions=True)
        if self._link is not None:
            self._link.close()
            self._link = None
        for pending in list(self._waiting()):
            pending.on_nack(lp.REASON_NONE)

    def _use(self, link: Link) -> None:
        link.receiver = self._receive
        link.lost = self._lost
        self._link, self._local = link, link.local

    def _lost(self) -> None:
        self._link = None
        if not self.closed and self._reconnect is None:
            log.info("lost the forwarder; trying to reach it again")
            self._reconnect = asyncio.get_running_loop().create_task(self._dial_again())
            for action in self._on_lost:
                action()

    async def _dial_again(self) -> None:
        loop = asyncio.get_running_loop()
        lost_at, pause_s = loop.time(), REDIAL_PAUSE_S
        while self._link is None:
            try:
                self._use(await self._dial())
            except NoForwarder:
                await asyncio.sleep(pause_s)
                if loop.time() > lost_at + PATIENT_AFTER_S:
                    pause_s = min(pause_s * 2, MAX_REDIAL_PAUSE_S)
        self._reconnect = None
        for action in self._on_connected:
            await action()
        loop.call_later(EXPRESS_AGAIN_S, self._express_again, tuple(self._waiting()))

    def _waiting(self) -> Iterator[Pending]:
        for table in (self._exact, self._prefix):
            for items in table.values():
                yield from items

    def _express_again(self, lost: tuple[Pending, ...]) -> None:
        """Interests that the old forwarder took with it; by now producers have registered at the new one."""
        for pending in set(self._waiting()).intersection(lost):
            if self._link is not None:
                self._link.send(pending.wire)

    # ------------------------------------------------------------ consumer side

    def send_interest(self, wire: bytes, pending: Pending) -> None:
        """Send an encoded Interest and remember who waits. The caller ends it with `forget`."""
        table = self._prefix if pending.can_be_prefix else self._exact
        waiting = table.setdefault(pending.name, [])
        if pending not in waiting:
            waiting.append(pending)
        if self.detour is not None:
            wire = self.detour.outgoing(wire, clock.monotonic())
        pending.wire = wire
        self.stats.interests_out += 1
        if self.trace is not None:
            self.trace("interest", pending.name, None)
        if self._link is not None:
            self._link.send(wire)

    def send_packed(self, wires: bytes, count: int) -> None:
        """Send `count` Interests, which stand one after another in `wires`; a receiver in `numbered` waits."""
        self.stats.interests_out += count
        detour = None if self.detour is None or self.detour.idle else self.detour
        if self.trace is not None or detour is not None:
            for wire in Framer().feed(wires) if count > 1 else (wires,):
                if self.trace is not None:
                    self.trace("interest", decode_interest(wire).name, None)
                self._send(wire if detour is None else detour.outgoing(wire, clock.monotonic()))
        elif self._link is not None:
            self._link.send_packed(wires, count)

    def after_packets(self, action: Callable[[], None]) -> None:
        """Run `action` once, when the packets that arrived together have all been handed over; at once when none are
        being handed over."""
        if self._receiving:
            self._after_packets.append(action)
        else:
            action()

    def forget(self, pending: Pending) -> None:
        table = self._prefix if pending.can_be_prefix else self._exact
        waiting = table.get(pending.name)
        if waiting is not None and pending in waiting:
            waiting.remove(pending)
            if not waiting:
                del table[pending.name]

    async def express(
        self,
        name: Name,
        *,
        can_be_prefix: bool = False,
        must_be_fresh: bool = False,
        hints: tuple[Name, ...] = (),
        lifetime_ms: int = 4000,
        parameters: bytes | None = None,
    ) -> tuple[Data, Arrival]:
        """One Interest, once; its Data is decoded but not verified. Raises Timeout, Nacked, BadPacket."""
        wire, full_name = encode_interest(
            name,
            nonce=os.urandom(4),
            can_be_prefix=can_be_prefix,
            must_be_fresh=must_be_fresh,
            hints=hints,
            lifetime_ms=lifetime_ms,
            parameters=parameters,
        )
        return await self.exchange(wire, full_name, can_be_prefix=can_be_prefix, lifetime_s=lifetime_ms / 1000)

    async def exchange(
        self, wire: bytes, name: Name, *, can_be_prefix: bool = False, lifetime_s: float = 4.0
    ) -> tuple[Data, Arrival]:
        """Send an encoded Interest and await its Data. Raises Timeout, Nacked, BadPacket."""
        future: asyncio.Future[tuple[bytes, Arrival]] = asyncio.get_running_loop().create_future()

        def on_data(data: bytes, _: Name, arrival: Arrival) -> None:
            if not future.done():
                future.set_result((data, arrival))

        def on_nack(reason: int) -> None:
            if not future.done():
                text = lp.REASON_TEXT.get(reason, str(reason))
                future.set_exception(Nacked(f"{text} for {ndn.to_uri(name)}", reason=reason))

        pending = Pending(name, can_be_prefix, on_data, on_nack)
        try:
            self.send_interest(wire, pending)
            async with asyncio.timeout(lifetime_s + LIFETIME_SLACK_S):
                data, arrival = await future
        except TimeoutError as error:
            self.stats.timeouts += 1
            raise Timeout(f"no Data for {ndn.to_uri(name)} within {lifetime_s:g} s") from error
        finally:
            self.forget(pending)
        return decode_data(data), arrival

    # ------------------------------------------------------------ producer side

    def answer_from(
        self, ready: Callable[[Name], bytes | None], coming: Callable[[Name], Handler | None]
    ) -> None:  # fmt: skip
        """Before any handler is asked: `ready(name)` gives the Data packet of exactly this name, or None. For packets
        that are never too old for anybody: segments of versioned objects. Then `coming(name)` gives who answers it."""
        self._ready, self._coming = Ready(ready), Coming(coming, self._send_data, self._send_nack)

    def attach(self, prefix: Name, handler: Handler) -> None:
        """Give Interests below `prefix` to `handler` (longest prefix wins). Registering a route is separate."""
        self._handlers[prefix] = handler

    def detach(self, prefix: Name) -> None:
        self._handlers.pop(prefix, None)

    # ------------------------------------------------------------ packets in

    def _receive(self, packets: Sequence[bytes]) -> None:
        self._receiving = True
        if isinstance(packets, Frames):
            self._take_frames(packets)
        else:
            self._take_all(packets)
        self._receiving = False
        if self._after_packets:
            actions, self._after_packets = self._after_packets, []
            for action in actions:
                action()
        if self._link is not None:
            self._link.flush()

    def _take_frames(self, frames: Frames) -> None:
        """Segments that are alike together, where nothing else has a part in them; all others one by one."""
        at, count = 0, len(frames)
        while at < count:
            plain = self.numbered and self.trace is None and (self.detour is None or self.detour.idle)
            if not plain:
                self._take_all(frames[at:])
                return
            taken = self.numbered.take_run(frames, at, self._exact.keys())
            self.stats.data_in += taken
            if not taken:
                packets = self.numbered.ordinary(frames, at)
                self._take_all(packets)
                taken = len(packets)
            at += taken

    def _take_all(self, packets: Sequence[bytes]) -> None:
        at, count = 0, len(packets)
        while at < count:
            answers = self._ready.answers(packets, at)
            if answers:
                self._send_ready(answers)
                at += len(answers)
                continue
            try:
                self._receive_one(packets[at])
            except BadPacket as error:
                self.stats.malformed += 1
                log.debug("dropped a malformed packet: %s", error)
            at += 1

    def _receive_one(self, wire: bytes) -> None:
        if wire[0] == tlv.DATA:
            self._on_data(wire, BARE)
        elif wire[0] == tlv.INTEREST:
            self._answer(wire, wire, None)
        elif (peeled := lp.peel(wire)) is not None and peeled[0][0] == tlv.DATA:
            self._on_data(peeled[0], Arrival(peeled[1], peeled[2]))
        elif (asked := lp.peel_interest(wire)) is not None:
            self._answer(wire, *asked)
        else:
            self._on_link_packet(lp.decode_lp(wire))

    def _answer(self, packet: bytes, wire: bytes, face_id: int | None) -> None:
        """An Interest that came without a PIT token in this link packet: most are for what is ready."""
        ready = self._ready.first(packet, wire)
        if ready is not None:
            self._send_ready([ready])
        elif self._coming.take(wire, face_id):
            self.stats.interests_in += 1
        else:
            self._on_interest(wire, b"", face_id)

    def _send_ready(self, answers: Sequence[bytes]) -> None:
        self.stats.interests_in += len(answers)
        if self._link is not None:
            self.stats.data_out += len(answers)
            send = self._link.send
            for wire in answers:
                send(wire)

    def _on_link_packet(self, packet: lp.LpPacket) -> None:
        if not packet.fragment:
            return
        if packet.frag_count > 1:
            raise BadPacket("fragments on a stream link")
        if packet.nack_reason is not None:
            self._on_nack(packet.fragment, packet.nack_reason)
        elif packet.fragment[0] == tlv.DATA:
            self._on_data(packet.fragment, Arrival(packet.congestion_mark > 0, packet.incoming_face_id))
        elif packet.fragment[0] == tlv.INTEREST:
            self._on_interest(packet.fragment, packet.pit_token, packet.incoming_face_id)

    def _on_data(self, wire: bytes, arrival: Arrival) -> None:
        name = data_name(wire)
        self.stats.data_in += 1
        if self.numbered and (waiting := self.numbered.split(name)) is not None:
            if self.trace is not None:
                self.trace("data", name, arrival)
            self._found(name)
            self.numbered.give(waiting, wire, arrival)
            if name not in self._exact:
                return
        found = self._exact.pop(name, None) or []
        if self._prefix:
            for end in ndn.prefix_ends(name):
                found = found + self._prefix.pop(name[:end], [])
        if not found:
            self.stats.unsolicited += 1
        if self.trace is not None:
            self.trace("data", name, arrival)
        for pending in found:
            self._found(pending.name)
            pending.on_data(wire, name, arrival)

    def _on_nack(self, interest_wire: bytes, reason: int) -> None:
        interest = decode_interest(interest_wire)
        self.stats.nacks_in += 1
        if self.trace is not None:
            self.trace("nack", interest.name, None)
        if self.detour is None:
            self._tell_refused(interest, reason)
            return
        turn = self.detour.refused(interest, interest_wire, reason, clock.monotonic())
        for wire in turn.send:
            self._send(wire)
        for told in turn.told:
            self._tell_refused(told, reason)

    def _tell_refused(self, interest: Interest, reason: int) -> None:
        name = interest.name
        if ndn.ends_in_digest(name):
            name = name[: -ndn.DIGEST_BYTES]
        self.numbered.refuse(name, reason)
        table = self._prefix if interest.can_be_prefix else self._exact
        for pending in table.pop(interest.name, []):
            pending.on_nack(reason)

    def _found(self, name: Name) -> None:
        """Data came for an Interest of this name; others may have waited for where it comes from."""
        if self.detour is not None and not self.detour.idle:
            for wire in self.detour.answered(name, clock.monotonic()):
                self._send(wire)

    def _send(self, wire: bytes) -> None:
        if wire and self._link is not None:
            self._link.send(wire)

    def _on_interest(self, wire: bytes, token: bytes, face_id: int | None) -> None:
        interest = decode_interest(wire)
        self.stats.interests_in += 1
        if interest.parameters is not None and not interest.parameters_digest_matches():
            raise BadPacket("ParametersSha256Digest does not match the parameters")
        handler = self._handler_for(interest.name)
        if handler is None:
            self._send_nack(wire, token, lp.REASON_NO_ROUTE)
            return
        handler(
            ReceivedInterest(
                interest,
                lambda data: self._send_data(data, token),
                lambda reason: self._send_nack(wire, token, reason),
                clock.monotonic() + interest.lifetime_ms / 1000,
                face_id,
                token,
            )
        )

    def _handler_for(self, name: Name) -> Handler | None:
        for end in reversed(ndn.prefix_ends(name)):
            handler = self._handlers.get(name[:end])
            if handler is not None:
                return handler
        return None

    def _send_data(self, wire: bytes, token: bytes) -> None:
        self.stats.data_out += 1
        if self._link is not None:
            self._link.send(lp.encode_lp(lp.LpPacket(wire, pit_token=token)) if token else wire)

    def _send_nack(self, wire: bytes, token: bytes, reason: int) -> None:
        self.stats.nacks_out += 1
        if self._link is not None:
            self._link.send(lp.encode_lp(lp.LpPacket(wire, pit_token=token, nack_reason=reason)))


def _nothing(name: Name) -> None:
    return None
