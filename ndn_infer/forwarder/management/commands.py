"""What NFD's management commands do to the tables.

Owns: validating ControlParameters, the change, the reply's fields (those that ndn-cxx insists on) and status codes.
Pure: faces to other hosts are made by a function of the shell. Must not know: Interests, names of commands. Source: NFD
management protocol wiki; NFD's daemon/mgmt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ndn_infer import ndn
from ndn_infer.addresses import is_loopback
from ndn_infer.forwarder.core.announcement import ORIGIN as ANNOUNCED
from ndn_infer.forwarder.core.announcement import ROUTE_COST, PrefixAnnouncement
from ndn_infer.forwarder.core.faces import MANAGEMENT_FACE_ID, ON_DEMAND, PERMANENT, PERSISTENT, Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.core.strategy import MAX_DEPTH
from ndn_infer.forwarder.core.strategy_base import StrategyError
from ndn_infer.forwarder.link.face_uri import FaceUri, FaceUriError, parse_face_uri
from ndn_infer.forwarder.link.link_service import MIN_MTU_BYTES
from ndn_infer.forwarder.management.datasets import (
    CONGESTION_MARKING,
    LOCAL_FIELDS,
    RELIABILITY,
    cs_flags,
    face_flags,
    face_mtu,
)
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.tlv import MAX_PACKET_BYTES

# NFD's words, so that nfdc shows the same.
ROUTE_TOO_LONG: Final = f"Route prefix cannot exceed {MAX_DEPTH} components"
HOP_TOO_LONG: Final = f"FIB entry prefix cannot exceed {MAX_DEPTH} components"
STRATEGY_TOO_LONG: Final = f"Prefix has too many components (limit is {MAX_DEPTH})"
ERASE_LIMIT: Final = 256
MAX_EXPIRATION_MS: Final = 1 << 53
"""Longer registrations are cut to this (285,000 years): what is told of them must fit its number."""


class CommandReply(NamedTuple):
    code: int
    text: str
    body: ControlParameters | None = None


NO_ROOM: Final = CommandReply(503, "the table is full")
Respond = Callable[[CommandReply], None]
FaceDone = Callable[[Face | None, int, str], None]
FaceMaker = Callable[[FaceUri, int, int | None, FaceDone], None]
"""Make a face to a URI with a persistency and an MTU (None: the default), and tell: (face, 200, "OK"), or no face, an
error code and a text; at once or later."""


def no_faces(uri: FaceUri, persistency: int, mtu: int | None, done: FaceDone) -> None:
    done(None, 406, "this forwarder makes no faces to other hosts")


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """`incoming` is the face the command came from; a FaceId of 0 or none means that one. `respond` is for commands
    that are answered later, and return None."""

    given: ControlParameters
    incoming: int
    now: float
    respond: Respond
    announcement: PrefixAnnouncement | None = None

    @property
    def prefix(self) -> Name | None:
        return self.announcement.prefix if self.announcement is not None else self.given.name

    @property
    def face_id(self) -> int:
        return self.given.face_id or self.incoming


Command = Callable[["Commands", CommandRequest], CommandReply | None]


class Commands:
    """One method a command; `table` finds it by (module, verb)."""

    def __init__(self, forwarder: Forwarder, make_face: FaceMaker, wall_us: Callable[[], int]) -> None:
        self._forwarder = forwarder
        self._make_face = make_face
        self._wall_us = wall_us

    # ------------------------------------------------------------ rib and fib

    def rib_register(self, request: CommandRequest) -> CommandReply | None:
        given = request.given
        refused = self._refuse_prefix(given.name, ROUTE_TOO_LONG) or self._refuse_face(request.face_id)
        if refused is not None or given.name is None:
            return refused
        origin, cost = given.origin or 0, given.cost or 0
        flags = CHILD_INHERIT if given.flags is None else given.flags
        period_ms = None if given.expiration_ms is None else min(given.expiration_ms, MAX_EXPIRATION_MS)
        if not self._forwarder.rib.has_room(given.name, request.face_id, origin):
            return NO_ROOM
        expires = None if period_ms is None else request.now + period_ms / 1000
        self._forwarder.register(given.name, Route(request.face_id, origin, cost, flags, expires), request.now)
        body = ControlParameters(
            name=given.name, face_id=request.face_id, origin=origin, cost=cost, flags=flags, expiration_ms=period_ms
        )
        return CommandReply(200, "OK", body)

    def rib_unregister(self, request: CommandRequest) -> CommandReply | None:
        given, origin = request.given, request.given.origin or 0
        if given.name is None:
            return _missing("Name")
        self._forwarder.rib.unregister(given.name, request.face_id, origin)
        return CommandReply(200, "OK", ControlParameters(name=given.name, face_id=request.face_id, origin=origin))

    def rib_announce(self, request: CommandRequest) -> CommandReply | None:
        announcement = request.announcement
        assert announcement is not None  # management.py has decoded it
        refused = self._refuse_prefix(announcement.prefix, ROUTE_TOO_LONG) or self._refuse_face(request.incoming)
        if refused is not None:
            return refused
        lifetime_s = min(announcement.lifetime_s(self._wall_us() / 1e6), MAX_EXPIRATION_MS / 1000)
        if lifetime_s <= 0:
            return CommandReply(403, "Prefix announcement rejected: outside its validity period")
        if not self._forwarder.rib.has_room(announcement.prefix, request.incoming, ANNOUNCED):
            return NO_ROOM
        route = Route(request.incoming, ANNOUNCED, ROUTE_COST, CHILD_INHERIT, request.now + lifetime_s)
        self._forwarder.register(announcement.prefix, route, request.now)
        body = ControlParameters(
            name=announcement.prefix, face_id=route.face_id, origin=route.origin, cost=route.cost, flags=route.flags,
            expiration_ms=int(lifetime_s * 1000),
        )  # fmt: skip
        return CommandReply(200, "OK", body)

    def fib_add(self, request: CommandRequest) -> CommandReply | None:
        given, cost = request.given, request.given.cost or 0
        refused = self._refuse_prefix(given.name, HOP_TOO_LONG) or self._refuse_face(request.face_id)
        if refused is not None or given.name is None:
            return refused
        if not self._forwarder.fib.has_room(given.name):
            return NO_ROOM
        self._forwarder.add_next_hop(given.name, request.face_id, cost, request.now)
        return CommandReply(200, "OK", ControlParameters(name=given.name, face_id=request.face_id, cost=cost))

    def fib_remove(self, request: CommandRequest) -> CommandReply | None:
        given = request.given
        if given.name is None:
            return _missing("Name")
        self._forwarder.fib.remove(given.name, request.face_id)
        return CommandReply(200, "OK", ControlParameters(name=given.name, face_id=request.face_id))

    def _refuse_prefix(self, prefix: Name | None, too_long: str) -> CommandReply | None:
        if prefix is None:
            return _missing("Name")
        return CommandReply(414, too_long) if len(ndn.components(prefix)) > MAX_DEPTH else None

    def _refuse_face(self, face_id: int) -> CommandReply | None:
        return None if face_id in self._forwarder.faces else CommandReply(410, "Face not found")

    # ------------------------------------------------------------ faces

    def face_create(self, request: CommandRequest) -> CommandReply | None:
        given = request.given
        if given.uri is None:
            return _missing("Uri")
        if (given.flags is None) != (given.mask is None):
            return CommandReply(400, "Flags and Mask come together")
        try:
            uri = parse_face_uri(given.uri)
        except FaceUriError as error:
            return CommandReply(error.code, str(error))
        persistency = PERSISTENT if given.persistency is None else given.persistency
        refused = _refuse_options(given, uri, persistency)
        if refused is not None:
            return refused
        text = str(uri)
        known = next((face for face in self._forwarder.faces.values() if face.uri == text), None)
        if known is not None:
            if known.persistency == ON_DEMAND and persistency in known.allowed_persistency:
                known.persistency = persistency  # it was asked for: it must not time out
            return CommandReply(409, "Face with remote URI already exists", _face_body(known, given))

        def done(face: Face | None, code: int, text: str) -> None:
            if face is not None:
                self._set_options(face, given)
            request.respond(CommandReply(code, text, _face_body(face, given) if face is not None else None))

        self._make_face(uri, persistency, given.mtu, done)
        return None

    def face_update(self, request: CommandRequest) -> CommandReply | None:
        given = request.given
        if (given.flags is None) != (given.mask is None):
            return CommandReply(400, "Flags and Mask come together")
        face = self._forwarder.faces.get(request.face_id)
        if face is None or face.id == MANAGEMENT_FACE_ID:
            return CommandReply(404, "Specified face does not exist")
        wrong = ControlParameters()
        if _wants(given, LOCAL_FIELDS) and not face.local:
            wrong = replace(wrong, flags=LOCAL_FIELDS, mask=LOCAL_FIELDS)
        if given.persistency is not None and given.persistency not in face.allowed_persistency:
            wrong = replace(wrong, persistency=given.persistency)
        if not _mtu_allowed(given.mtu) or (given.mtu is not None and face.link.mtu_bytes is None):
            wrong = replace(wrong, mtu=given.mtu)
        if wrong != ControlParameters():
            return CommandReply(409, "Invalid properties specified", wrong)
        if given.persistency is not None:
            face.persistency = given.persistency
        self._set_options(face, given)
        return CommandReply(200, "OK", replace(_face_body(face, given), uri=None, local_uri=None))

    def face_destroy(self, request: CommandRequest) -> CommandReply | None:
        face_id = request.given.face_id
        if not face_id:
            return _missing("FaceId")
        face = self._forwarder.faces.get(face_id)
        if face is not None and face.id != MANAGEMENT_FACE_ID:
            self._forwarder.remove_face(face.id, request.now)
            face.close()
        return CommandReply(200, "OK", ControlParameters(face_id=face_id))

    def _set_options(self, face: Face, given: ControlParameters) -> None:
        """Flags, MTU and congestion marking of a face (checked before)."""
        link, flags, mask = face.link, given.flags or 0, given.mask or 0
        if mask & LOCAL_FIELDS:
            link.local_fields = bool(flags & LOCAL_FIELDS) and face.local
        if mask & RELIABILITY:
            self._forwarder.set_reliability(face, bool(flags & RELIABILITY))
        if mask & CONGESTION_MARKING:
            link.congestion_marking = bool(flags & CONGESTION_MARKING)
        if given.base_mark_interval is not None:
            link.mark_interval_ns = given.base_mark_interval
        if given.default_threshold is not None:
            link.threshold_bytes = given.default_threshold
        if given.mtu is not None and link.mtu_bytes is not None:
            link.mtu_bytes = min(given.mtu, MAX_PACKET_BYTES)

    # ------------------------------------------------------------ cs and strategies

    def cs_config(self, request: CommandRequest) -> CommandReply | None:
        given, cs = request.given, self._forwarder.cs
        if (given.flags is None) != (given.mask is None):
            return CommandReply(400, "Flags and Mask come together")
        if given.capacity is not None:
            cs.capacity_packets = given.capacity
            cs.evict()
        if given.flags is not None and given.mask is not None:
            if given.mask & 1:
                cs.admit = bool(given.flags & 1)
            if given.mask & 2:
                cs.serve = bool(given.flags & 2)
        return CommandReply(200, "OK", ControlParameters(capacity=cs.capacity_packets, flags=cs_flags(self._forwarder)))

    def cs_erase(self, request: CommandRequest) -> CommandReply | None:
        """At most ERASE_LIMIT packets a command; Capacity in the reply says that there are more (NFD, CsManager)."""
        given, cs = request.given, self._forwarder.cs
        if given.name is None:
            return _missing("Name")
        wanted = ERASE_LIMIT + 1 if given.count is None else given.count
        erased = cs.erase(given.name, min(wanted, ERASE_LIMIT))
        more = erased == ERASE_LIMIT < wanted and cs.has_below(given.name)
        body = ControlParameters(name=given.name, count=erased, capacity=ERASE_LIMIT if more else None)
        return CommandReply(200, "OK", body)

    def strategy_set(self, request: CommandRequest) -> CommandReply | None:
        given = request.given
        if given.strategy is None:
            return _missing("Strategy")
        refused = self._refuse_prefix(given.name, STRATEGY_TOO_LONG)
        if refused is not None or given.name is None:
            return refused
        if not self._forwarder.strategies.has_room(given.name):
            return NO_ROOM
        try:
            strategy = self._forwarder.strategies.set(given.name, given.strategy)
        except StrategyError as error:
            return CommandReply(409, f"Error instantiating strategy: {error}")
        if strategy is None:
            return CommandReply(404, "Strategy not registered")
        return CommandReply(200, "OK", ControlParameters(name=given.name, strategy=strategy.name))

    def strategy_unset(self, request: CommandRequest) -> CommandReply | None:
        prefix = request.given.name
        if prefix is None:
            return _missing("Name")
        if not prefix:
            return CommandReply(400, "the strategy of / can be changed, not unset")
        self._forwarder.strategies.unset(prefix)
        return CommandReply(200, "OK", ControlParameters(name=prefix))

    table: Final[dict[tuple[bytes, bytes], Command]] = {
        (b"rib", b"register"): rib_register,
        (b"rib", b"unregister"): rib_unregister,
        (b"rib", b"announce"): rib_announce,
        (b"fib", b"add-nexthop"): fib_add,
        (b"fib", b"remove-nexthop"): fib_remove,
        (b"faces", b"create"): face_create,
        (b"faces", b"update"): face_update,
        (b"faces", b"destroy"): face_destroy,
        (b"cs", b"config"): cs_config,
        (b"cs", b"erase"): cs_erase,
        (b"strategy-choice", b"set"): strategy_set,
        (b"strategy-choice", b"unset"): strategy_unset,
    }
    remote_table: Final[dict[tuple[bytes, bytes], Command]] = {
        key: command for key, command in table.items() if key[0] == b"rib"
    }


def _missing(field: str) -> CommandReply:
    return CommandReply(400, f"failed in validating parameters: {field} is missing")


def _wants(given: ControlParameters, bit: int) -> bool:
    return bool((given.flags or 0) & (given.mask or 0) & bit)


def _refuse_options(given: ControlParameters, uri: FaceUri, persistency: int) -> CommandReply | None:
    """What a new face cannot have."""
    if given.local_uri is not None:
        return CommandReply(406, f"Unicast {uri.kind.upper()} faces cannot be created with a LocalUri")
    if persistency not in (PERSISTENT, PERMANENT):
        return CommandReply(406, "Outgoing faces are persistent or permanent")
    if _wants(given, LOCAL_FIELDS) and not is_loopback(uri.host):
        return CommandReply(406, "Local fields can only be enabled on faces with local scope")
    if given.mtu is not None and uri.kind == "tcp":
        return CommandReply(406, "TCP faces do not support MTU overrides")
    if not _mtu_allowed(given.mtu):
        return CommandReply(406, f"Override MTU cannot be less than {MIN_MTU_BYTES}")
    return None


def _mtu_allowed(mtu: int | None) -> bool:
    return mtu is None or mtu >= MIN_MTU_BYTES


def _face_body(face: Face, given: ControlParameters) -> ControlParameters:
    """What the request does not name of marking and MTU is not told: python-ndn 0.5.2 cannot decode these fields where
    ndn-cxx and NDNts have them, behind FacePersistency, and its pynfdc never names them."""
    body = ControlParameters(
        face_id=face.id, uri=face.uri, local_uri=face.local_uri, flags=face_flags(face), persistency=face.persistency
    )
    if given.mtu is None and given.base_mark_interval is None and given.default_threshold is None:
        return body
    return replace(
        body,
        base_mark_interval=face.link.mark_interval_ns,
        default_threshold=face.link.threshold_bytes,
        mtu=face_mtu(face),
    )
