"""NFD's management protocol, as unmodified clients speak it.

Owns: commands and datasets below /localhost/nfd, in both signed command formats (v0.2 name components, v0.3 signed
Interests). Pure: Interests come in, Data go out through the forwarder; faces to other hosts are made by a function of
the shell. Must not know: sockets. Source: NFD management protocol wiki; replies carry the fields ndn-cxx insists on.

A command is answered after the tables have changed. Whoever can reach a local face may manage, as with NFD's default
`localhost_security any`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from ndn_infer import name as ndn
from ndn_infer import packet
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.faces import MANAGEMENT_FACE_ID, ON_DEMAND, PERSISTENT, Face
from ndn_infer.forwarder.mgmt_tlv import (
    ControlParameters,
    decode_parameters,
    encode_response,
    number,
    numbers,
    text,
)
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.forwarder.tables import CHILD_INHERIT, Route
from ndn_infer.lp import LpPacket, decode_lp, encode_lp
from ndn_infer.name import Name
from ndn_infer.tlv import encode_tlv

PREFIX: Final = ndn.from_uri("/localhost/nfd")
DATASET_SEGMENT_BYTES: Final = 7500
MAX_REMEMBERED_SEGMENTS: Final = 2048
MAX_FIB_DEPTH: Final = 32
VERSION_TEXT: Final = "24.07+ndn-infer-0.1"

Reply = tuple[int, str, ControlParameters | None]
FaceMaker = Callable[[str, int, "Callable[[Face | None, int, str], None]"], None]
"""Make a face to a URI with a persistency, and tell: (face, 200 or 409 or an error code, text)."""


def _no_faces(uri: str, persistency: int, done: Callable[[Face | None, int, str], None]) -> None:
    done(None, 406, "this forwarder makes no faces to other hosts")


class Management:
    """Answers on the forwarder's internal face. `make_face` is given by the shell."""

    def __init__(self, forwarder: Forwarder, *, make_face: FaceMaker = _no_faces) -> None:
        self._forwarder = forwarder
        self._make_face = make_face
        self._segments: OrderedDict[Name, bytes] = OrderedDict()
        self._started_ms = time.time_ns() // 1_000_000
        self._now = 0.0
        self.face = Face(
            MANAGEMENT_FACE_ID, "internal://", "internal://", self._on_packet, local=True, local_fields=True
        )
        forwarder.add_face(self.face)
        forwarder.fib.add(PREFIX, MANAGEMENT_FACE_ID, 0)
        self._pending: list[bytes] = []

    # ------------------------------------------------------------ in and out

    def _on_packet(self, wire: bytes) -> None:
        """An Interest for us: kept until the pipeline that sent it has returned."""
        self._pending.append(wire)

    def run(self, now: float) -> None:
        """Answer what arrived. The shell calls this after every packet it gave to the forwarder."""
        while self._pending:
            pending, self._pending = self._pending, []
            for wire in pending:
                self._answer(wire, now)

    def _answer(self, wire: bytes, now: float) -> None:
        try:
            link = decode_lp(wire)
            interest = packet.decode_interest(link.fragment)
            parts = ndn.components(interest.name[len(PREFIX) :])
        except BadPacket:
            return
        stored = self._segments.get(interest.name)
        if stored is not None:
            self._forwarder.receive(self.face, stored, now)
            return
        if len(parts) < 2:
            return
        key = tuple(ndn.component_value(part) for part in parts[:2])
        self._now = now
        if key in _DATASETS:
            self._dataset(PREFIX + parts[0] + parts[1], _DATASETS[key](self), now)
        elif key == (b"faces", b"query") and len(parts) > 2:
            self._dataset(PREFIX + b"".join(parts[:3]), self._face_statuses(), now)
        elif len(parts) > 2:
            self._command(interest.name, key, ndn.component_value(parts[2]), link.incoming_face_id or 0, now)

    def _command(self, name: Name, key: tuple[bytes, ...], raw: bytes, incoming: int, now: float) -> None:
        command = _COMMANDS.get(key)
        try:
            if command is None:
                reply: Reply | None = (501, "unknown command", None)
            else:
                reply = command(self, decode_parameters(raw), incoming, self._responder(name))
        except BadPacket as error:
            reply = (400, f"malformed ControlParameters: {error}", None)
        if reply is not None:
            self._respond(name, reply, now)

    def _responder(self, name: Name) -> Callable[[Reply], None]:
        return lambda reply: self._respond(name, reply, self._now)

    def _respond(self, name: Name, reply: Reply, now: float) -> None:
        content = encode_response(*reply)
        wire = packet.encode_data(name, content, freshness_ms=1000)
        self._forwarder.receive(self.face, encode_no_cache(wire), now)

    def _dataset(self, prefix: Name, content: bytes, now: float) -> None:
        """Publish one version of a dataset; its first segment answers, the others wait to be asked."""
        base = prefix + ndn.version(time.time_ns() // 1000)
        count = max(1, -(-len(content) // DATASET_SEGMENT_BYTES))
        final = ndn.segment(count - 1)
        for index in range(count):
            piece = content[index * DATASET_SEGMENT_BYTES : (index + 1) * DATASET_SEGMENT_BYTES]
            name = base + ndn.segment(index)
            wire = encode_no_cache(packet.encode_data(name, piece, freshness_ms=1000, final_block=final))
            if count > 1:
                self._segments[name] = wire
            if index == 0:
                self._forwarder.receive(self.face, wire, now)
        while len(self._segments) > MAX_REMEMBERED_SEGMENTS:
            self._segments.popitem(last=False)

    # ------------------------------------------------------------ rib and fib

    def _rib_register(self, given: ControlParameters, incoming: int, _: Callable[[Reply], None]) -> Reply | None:
        face_id = given.face_id or incoming
        if given.name is None:
            return 400, "Name is missing", None
        if len(ndn.components(given.name)) > MAX_FIB_DEPTH:
            return 414, f"a prefix has at most {MAX_FIB_DEPTH} components", None
        if face_id not in self._forwarder.faces:
            return 410, "no such face", None
        full = replace(
            given,
            face_id=face_id,
            origin=given.origin or 0,
            cost=given.cost or 0,
            flags=CHILD_INHERIT if given.flags is None else given.flags,
        )
        assert full.origin is not None and full.cost is not None and full.flags is not None and full.name is not None
        expires = None if given.expiration_ms is None else self._now + given.expiration_ms / 1000
        self._forwarder.rib.register(full.name, Route(face_id, full.origin, full.cost, full.flags, expires))
        return 200, "Success", full

    def _rib_unregister(self, given: ControlParameters, incoming: int, _: Callable[[Reply], None]) -> Reply | None:
        if given.name is None:
            return 400, "Name is missing", None
        full = replace(given, face_id=given.face_id or incoming, origin=given.origin or 0)
        assert full.face_id is not None and full.origin is not None and full.name is not None
        self._forwarder.rib.unregister(full.name, full.face_id, full.origin)
        return 200, "Success", full

    def _fib_add(self, given: ControlParameters, incoming: int, _: Callable[[Reply], None]) -> Reply | None:
        face_id = given.face_id or incoming
        if given.name is None:
            return 400, "Name is missing", None
        if len(ndn.components(given.name)) > MAX_FIB_DEPTH:
            return 414, f"a prefix has at most {MAX_FIB_DEPTH} components", None
        if face_id not in self._forwarder.faces:
            return 410, "no such face", None
        self._forwarder.fib.add(given.name, face_id, given.cost or 0)
        return 200, "Success", replace(given, face_id=face_id, cost=given.cost or 0)

    def _fib_remove(self, given: ControlParameters, incoming: int, _: Callable[[Reply], None]) -> Reply | None:
        if given.name is None:
            return 400, "Name is missing", None
        face_id = given.face_id or incoming
        self._forwarder.fib.remove(given.name, face_id)
        return 200, "Success", replace(given, face_id=face_id)

    # ------------------------------------------------------------ faces

    def _face_create(self, given: ControlParameters, _: int, respond: Callable[[Reply], None]) -> Reply | None:
        if given.uri is None:
            return 400, "Uri is missing", None
        persistency = PERSISTENT if given.persistency is None else given.persistency
        if persistency == ON_DEMAND:
            return 406, "outgoing faces are persistent or permanent", None
        face = next((face for face in self._forwarder.faces.values() if face.uri == given.uri), None)
        if face is not None:
            return 409, "Face with this remote URI exists already", _face_body(face)

        def done(face: Face | None, code: int, words: str) -> None:
            if face is not None and given.flags is not None:
                face.local_fields = bool(given.flags & (given.mask or given.flags) & 1)
            respond((code, words, _face_body(face) if face is not None else None))

        self._make_face(given.uri, persistency, done)
        return None

    def _face_update(self, given: ControlParameters, incoming: int, _: Callable[[Reply], None]) -> Reply | None:
        face = self._forwarder.faces.get(given.face_id or incoming)
        if face is None:
            return 404, "no such face", None
        if (given.flags is None) != (given.mask is None):
            return 409, "Flags and Mask come together", None
        if given.flags is not None and given.mask is not None and given.mask & 1:
            face.local_fields = bool(given.flags & 1)
        if given.persistency is not None:
            face.persistency = given.persistency
        body = ControlParameters(face_id=face.id, flags=_flags(face), persistency=face.persistency)
        return 200, "Success", body

    def _face_destroy(self, given: ControlParameters, _: int, __: Callable[[Reply], None]) -> Reply | None:
        if given.face_id is None:
            return 400, "FaceId is missing", None
        face = self._forwarder.faces.get(given.face_id)
        if face is not None and face.id != MANAGEMENT_FACE_ID:
            self._forwarder.remove_face(face.id)
            face.close()
        return 200, "Success", given

    # ------------------------------------------------------------ cs and strategies

    def _cs_config(self, given: ControlParameters, _: int, __: Callable[[Reply], None]) -> Reply | None:
        cs = self._forwarder.cs
        if given.capacity is not None:
            cs.capacity_packets = given.capacity
            cs.shrink()
        if given.flags is not None and given.mask is not None:
            if given.mask & 1:
                cs.admit = bool(given.flags & 1)
            if given.mask & 2:
                cs.serve = bool(given.flags & 2)
        return 200, "Success", ControlParameters(capacity=cs.capacity_packets, flags=_cs_flags(cs.admit, cs.serve))

    def _cs_erase(self, given: ControlParameters, _: int, __: Callable[[Reply], None]) -> Reply | None:
        if given.name is None:
            return 400, "Name is missing", None
        limit = 256 if given.count is None else min(given.count, 256)
        erased = self._forwarder.cs.erase(given.name, limit)
        return 200, "Success", ControlParameters(name=given.name, count=erased)

    def _strategy_set(self, given: ControlParameters, _: int, __: Callable[[Reply], None]) -> Reply | None:
        if given.name is None or given.strategy is None:
            return 400, "Name or Strategy is missing", None
        strategy = self._forwarder.strategies.set(given.name, given.strategy)
        if strategy is None:
            return 404, "this forwarder has no such strategy", None
        return 200, "Success", ControlParameters(name=given.name, strategy=strategy.name)

    def _strategy_unset(self, given: ControlParameters, _: int, __: Callable[[Reply], None]) -> Reply | None:
        if not given.name:
            return 400, "the strategy of / can be changed, not unset", None
        self._forwarder.strategies.unset(given.name)
        return 200, "Success", ControlParameters(name=given.name)

    # ------------------------------------------------------------ datasets

    def _face_statuses(self) -> bytes:
        return b"".join(_face_status(face) for face in self._forwarder.faces.values())

    def _fib_entries(self) -> bytes:
        entries = []
        for prefix, hops in self._forwarder.fib.entries.items():
            records = [encode_tlv(0x81, numbers({0x69: hop.face_id, 0x6A: hop.cost})) for hop in hops]
            entries.append(encode_tlv(0x80, ndn.encode_name(prefix) + b"".join(records)))
        return b"".join(entries)

    def _rib_entries(self) -> bytes:
        entries = []
        for prefix, routes in self._forwarder.rib.routes.items():
            records = b"".join(encode_tlv(0x81, self._route(route)) for route in routes.values())
            entries.append(encode_tlv(0x80, ndn.encode_name(prefix) + records))
        return b"".join(entries)

    def _route(self, route: Route) -> bytes:
        fields = numbers({0x69: route.face_id, 0x6F: route.origin, 0x6A: route.cost, 0x6C: route.flags})
        if route.expires is not None:
            fields += number(0x6D, max(0, int((route.expires - self._now) * 1000)))
        return fields

    def _cs_info(self) -> bytes:
        cs = self._forwarder.cs
        flags = _cs_flags(cs.admit, cs.serve)
        values = {0x83: cs.capacity_packets, 0x6C: flags, 0x87: len(cs), 0x81: cs.hits, 0x82: cs.misses}
        return encode_tlv(0x80, numbers(values))

    def _strategy_choices(self) -> bytes:
        return b"".join(
            encode_tlv(0x80, ndn.encode_name(prefix) + encode_tlv(0x6B, ndn.encode_name(strategy.name)))
            for prefix, strategy in self._forwarder.strategies.entries.items()
        )

    def _general_status(self) -> bytes:
        core, counters = self._forwarder, asdict(self._forwarder.counters)
        values = {
            0x81: self._started_ms,
            0x82: time.time_ns() // 1_000_000,
            0x83: len(core.fib.entries) + core.pit_size,
            0x84: len(core.fib.entries),
            0x85: core.pit_size,
            0x86: 0,
            0x87: len(core.cs),
            0x90: counters["in_interests"],
            0x91: counters["in_data"],
            0x97: counters["in_nacks"],
            0x92: counters["out_interests"],
            0x93: counters["out_data"],
            0x98: counters["out_nacks"],
            0x99: counters["satisfied"],
            0x9A: counters["unsatisfied"],
        }
        return text(0x80, VERSION_TEXT) + numbers(values)

    def _channels(self) -> bytes:
        return b""


Command = Callable[[Management, ControlParameters, int, Callable[[Reply], None]], Reply | None]

_COMMANDS: Final[dict[tuple[bytes, ...], Command]] = {
    (b"rib", b"register"): Management._rib_register,
    (b"rib", b"unregister"): Management._rib_unregister,
    (b"fib", b"add-nexthop"): Management._fib_add,
    (b"fib", b"remove-nexthop"): Management._fib_remove,
    (b"faces", b"create"): Management._face_create,
    (b"faces", b"update"): Management._face_update,
    (b"faces", b"destroy"): Management._face_destroy,
    (b"cs", b"config"): Management._cs_config,
    (b"cs", b"erase"): Management._cs_erase,
    (b"strategy-choice", b"set"): Management._strategy_set,
    (b"strategy-choice", b"unset"): Management._strategy_unset,
}

_DATASETS: Final[dict[tuple[bytes, ...], Callable[[Management], bytes]]] = {
    (b"faces", b"list"): Management._face_statuses,
    (b"faces", b"channels"): Management._channels,
    (b"fib", b"list"): Management._fib_entries,
    (b"rib", b"list"): Management._rib_entries,
    (b"cs", b"info"): Management._cs_info,
    (b"strategy-choice", b"list"): Management._strategy_choices,
    (b"status", b"general"): Management._general_status,
}


def encode_no_cache(wire: bytes) -> bytes:
    """Management answers are about now: they never enter the Content Store."""
    return encode_lp(LpPacket(wire, no_cache=True))


def _flags(face: Face) -> int:
    return int(face.local_fields) | 4


def _cs_flags(admit: bool, serve: bool) -> int:
    return int(admit) | int(serve) << 1


def _face_body(face: Face) -> ControlParameters:
    return ControlParameters(
        face_id=face.id, uri=face.uri, local_uri=face.local_uri, flags=_flags(face), persistency=face.persistency,
        mtu=face.mtu_bytes,
    )  # fmt: skip


def _face_status(face: Face) -> bytes:
    counters = face.counters
    values = {
        0x84: int(face.local),
        0x85: face.persistency,
        0x86: 0,
        0x87: 100_000_000,
        0x88: 65536,
        **({0x89: face.mtu_bytes} if face.mtu_bytes is not None else {}),
        0x90: counters.in_interests,
        0x91: counters.in_data,
        0x97: counters.in_nacks,
        0x92: counters.out_interests,
        0x93: counters.out_data,
        0x98: counters.out_nacks,
        0x94: counters.in_bytes,
        0x95: counters.out_bytes,
        0x6C: _flags(face),
    }
    head = number(0x69, face.id) + text(0x72, face.uri) + text(0x81, face.local_uri)
    return encode_tlv(0x80, head + numbers(values))
