"""NFD's management protocol, as unmodified clients speak it: requests in, signed replies out.

Owns: recognising commands and datasets below /localhost/nfd, in both signed command formats (v0.2 name components,
v0.3 signed Interests), and replying: versioned and segmented datasets, ControlResponses. What commands do is in
commands.py. Pure: Interests come in and Data go out through the internal face, the wall clock is given.
Must not know: sockets. Source: NFD management protocol wiki; ndn-cxx's Dispatcher.

A command is answered after the tables have changed. Who may command is decided by an authority (access.py); below
/localhop only routes can be registered, and only for the face that the command came from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.announcement import decode_announcement
from ndn_infer.forwarder.core.faces import MANAGEMENT_FACE_ID, PERMANENT, Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.management import datasets
from ndn_infer.forwarder.management.access import Authority, CommandClaim, anybody_local
from ndn_infer.forwarder.management.commands import CommandReply, CommandRequest, Commands, FaceMaker, no_faces
from ndn_infer.forwarder.management.encoding import (
    ControlParameters,
    decode_face_filter,
    decode_parameters,
    encode_response,
)
from ndn_infer.forwarder.management.events import PREFIX as EVENTS_PREFIX
from ndn_infer.forwarder.management.events import FaceEvents
from ndn_infer.ndn import packet
from ndn_infer.ndn.lp import LpPacket, decode_lp, encode_lp
from ndn_infer.ndn.name import Component, Name

PREFIX: Final = ndn.from_uri("/localhost/nfd")
LOCALHOP_PREFIX: Final = ndn.from_uri("/localhop/nfd")
SEGMENT_BYTES: Final = 7400
REPLY_FRESHNESS_MS: Final = 1000
MAX_REMEMBERED_SEGMENTS: Final = 2048
MAX_NAME_BYTES: Final = 1200
"""Requests with longer names are ignored: the reply, which carries the name, must fit a packet."""


class Management:
    """Answers on the forwarder's internal face.

    `wall_us` is the wall clock in microseconds (dataset versions, status), `make_face` makes faces to other hosts,
    `listening` gives the URIs of the shell's listeners, `authority` says who may command, `neighbours`
    opens /localhop/nfd/rib for faces that are not local. The shell calls `run` after every packet that it gave to the
    forwarder, and when a face or a verdict that it was asked for is there.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        *,
        wall_us: Callable[[], int],
        make_face: FaceMaker = no_faces,
        listening: Callable[[], Iterable[str]] = lambda: (),
        authority: Authority = anybody_local,
        neighbours: bool = False,
    ) -> None:
        self._forwarder = forwarder
        self._wall_us = wall_us
        self._listening = listening
        self._authority = authority
        self._commands = Commands(forwarder, make_face, wall_us)
        self._events = FaceEvents()
        self._happened: list[tuple[int, Face]] = []
        self._segments: OrderedDict[Name, bytes] = OrderedDict()
        self._started_ms = wall_us() // 1000
        self._last_version = 0
        self._requests: list[bytes] = []
        self._replies: list[tuple[Name, CommandReply]] = []
        link = LinkService(self._requests.append, local_fields=True)
        link.congestion_marking = False
        self.face = Face(
            MANAGEMENT_FACE_ID, "internal://", "internal://", link, local=True, persistency=PERMANENT,
            allowed_persistency=frozenset(), private=True,
        )  # fmt: skip
        forwarder.add_face(self.face)
        forwarder.fib.add(PREFIX, MANAGEMENT_FACE_ID, 0)
        self.serve_neighbours(neighbours)
        forwarder.face_changed = lambda kind, face: self._happened.append((kind, face))

    def serve_neighbours(self, on: bool) -> None:
        """Open or close /localhop/nfd/rib for faces that are not local."""
        prefix = LOCALHOP_PREFIX + ndn.generic("rib")
        if on:
            self._forwarder.fib.add(prefix, MANAGEMENT_FACE_ID, 0)
        else:
            self._forwarder.fib.remove(prefix, MANAGEMENT_FACE_ID)

    def run(self, now: float) -> None:
        """Answer what has arrived since the last call, and what was made meanwhile."""
        while self._requests or self._replies or self._happened:
            happened, self._happened[:] = list(self._happened), []
            for kind, face in happened:
                awaited = self._events.post(kind, face, datasets.face_flags(face), now)
                if awaited is not None:
                    self._send(awaited, now)
            requests, self._requests[:] = list(self._requests), []
            for wire in requests:
                self._answer(wire, now)
            replies, self._replies[:] = list(self._replies), []
            for name, reply in replies:
                self._send(packet.encode_data(name, encode_response(*reply), freshness_ms=REPLY_FRESHNESS_MS), now)

    def _send(self, wire: bytes, now: float) -> None:
        """Management answers are about now: they never enter the Content Store."""
        self._forwarder.receive(self.face, encode_lp(LpPacket(wire, no_cache=True)), now)

    def _answer(self, wire: bytes, now: float) -> None:
        try:
            link = decode_lp(wire)
            if link.nack_reason is not None or link.fragment[:1] != b"\x05":
                return
            interest = packet.decode_interest(link.fragment)
        except BadPacket:
            return
        # A next hop chosen by an application, or a route to this face, may bring anything here.
        local = interest.name.startswith(PREFIX)
        if not (local or interest.name.startswith(LOCALHOP_PREFIX)) or len(interest.name) > MAX_NAME_BYTES:
            return
        if interest.parameters is not None and not interest.parameters_digest_matches():
            return  # as ndn-cxx: not what its name promises
        parts = ndn.components(interest.name)[2:]
        if len(parts) < 2:
            return
        if not local:
            self._command(interest, parts, link.incoming_face_id or 0, now)
            return
        if interest.name.startswith(EVENTS_PREFIX):
            self._event(interest, now)
            return
        stored = self._segments.get(interest.name)
        if stored is not None:
            self._send(stored, now)
            return
        if ndn.component_type(parts[-1]) == ndn.SEGMENT:
            return  # a segment of a version that is gone
        module, verb = (ndn.component_value(part) for part in parts[:2])
        dataset = _DATASETS.get((module, verb))
        if dataset is not None:
            self._publish(interest.name, dataset(self, now), now)
        elif (module, verb) == (b"faces", b"query"):
            self._query(interest.name, parts[2:], now)
        else:
            self._command(interest, parts, link.incoming_face_id or 0, now)

    def _event(self, interest: packet.Interest, now: float) -> None:
        found = self._events.find(interest.name, now)
        if found is not None:
            self._send(found, now)
        else:
            self._events.awaited(now + interest.lifetime_ms / 1000)

    # ------------------------------------------------------------ commands

    def _command(self, interest: packet.Interest, parts: list[Component], incoming: int, now: float) -> None:
        """Check a command, ask the authority, carry it out; the answer goes out with the next `run`."""
        if len(parts) < 3:
            return
        local = interest.name.startswith(PREFIX)
        respond: Callable[[CommandReply], None] = partial(self._respond, interest.name)
        key = (ndn.component_value(parts[0]), ndn.component_value(parts[1]))
        command = (Commands.table if local else Commands.remote_table).get(key)
        if command is None:
            respond(CommandReply(501, "unknown command"))
            return
        try:
            request = self._request(interest, parts, incoming, now, respond)
        except BadPacket as error:
            respond(CommandReply(400, f"malformed command: {error}"))
            return
        if not local and request.face_id != incoming:
            respond(CommandReply(403, "a neighbour may register for itself only"))
            return

        def decided(refusal: str | None) -> None:
            if refusal is not None:
                respond(CommandReply(403, refusal))
                return
            reply = command(self._commands, request)
            if reply is not None:
                respond(reply)

        module, verb = (part.decode("utf-8", "replace") for part in key)
        own_face = key == (b"faces", b"update") and request.face_id == incoming
        face = self._forwarder.faces.get(incoming)
        private = face is not None and face.private
        self._authority(
            CommandClaim(interest, module, verb, request.prefix, local, own_face, private, incoming), decided
        )

    def _request(
        self,
        interest: packet.Interest,
        parts: list[Component],
        incoming: int,
        now: float,
        respond: Callable[[CommandReply], None],
    ) -> CommandRequest:
        if [ndn.component_value(part) for part in parts[:2]] == [b"rib", b"announce"]:
            announcement = decode_announcement(interest.parameters or b"")
            return CommandRequest(ControlParameters(), incoming, now, respond, announcement)
        return CommandRequest(decode_parameters(ndn.component_value(parts[2])), incoming, now, respond)

    def _respond(self, name: Name, reply: CommandReply) -> None:
        self._replies.append((name, reply))

    # ------------------------------------------------------------ datasets

    def _publish(self, requested: Name, content: bytes, now: float) -> None:
        """Publish one version of a dataset below the name that was asked for (a signed Interest's too); its first
        segment answers, the others wait to be asked."""
        self._last_version = max(self._wall_us(), self._last_version + 1)
        base = requested + ndn.version(self._last_version)
        count = max(1, -(-len(content) // SEGMENT_BYTES))
        final = ndn.segment(count - 1)
        for index in range(count):
            piece = content[index * SEGMENT_BYTES : (index + 1) * SEGMENT_BYTES]
            name = base + ndn.segment(index)
            self._segments[name] = packet.encode_data(
                name, piece, freshness_ms=REPLY_FRESHNESS_MS, final_block=final
            )  # fmt: skip
        first = self._segments[base + ndn.segment(0)]
        while len(self._segments) > MAX_REMEMBERED_SEGMENTS:
            self._segments.popitem(last=False)
        self._send(first, now)

    def _query(self, requested: Name, rest: list[Component], now: float) -> None:
        try:
            wanted = decode_face_filter(ndn.component_value(rest[0]) if rest else b"")
        except BadPacket:
            self._respond(requested, CommandReply(400, "Malformed filter"))
            return
        found = [face for face in self._forwarder.faces.values() if datasets.matches(face, wanted)]
        self._publish(requested, datasets.face_statuses(found), now)

    def _faces(self, now: float) -> bytes:
        return datasets.face_statuses(self._forwarder.faces.values())

    def _channels(self, now: float) -> bytes:
        return datasets.channels(self._listening())

    def _fib(self, now: float) -> bytes:
        return datasets.fib_entries(self._forwarder)

    def _rib(self, now: float) -> bytes:
        return datasets.rib_entries(self._forwarder, now)

    def _cs(self, now: float) -> bytes:
        return datasets.cs_info(self._forwarder)

    def _strategies(self, now: float) -> bytes:
        return datasets.strategy_choices(self._forwarder)

    def _status(self, now: float) -> bytes:
        return datasets.general_status(self._forwarder, self._started_ms, self._wall_us() // 1000)


_DATASETS: Final[dict[tuple[bytes, bytes], Callable[[Management, float], bytes]]] = {
    (b"faces", b"list"): Management._faces,
    (b"faces", b"channels"): Management._channels,
    (b"fib", b"list"): Management._fib,
    (b"rib", b"list"): Management._rib,
    (b"cs", b"info"): Management._cs,
    (b"strategy-choice", b"list"): Management._strategies,
    (b"status", b"general"): Management._status,
}
