"""Whom we know to hold KV blocks, and what they say they hold.

Owns: the producers that answers, verified blocks and callers named as holders, in which order they are asked, who is
not asked for a while, and both sides of the question "which of these blocks do you hold?". Must not know: how blocks
are fetched, what is in them. A claim is a hint: each block is verified all the same, and a false claim is remembered.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

from ndn_infer import ndn
from ndn_infer.errors import BadRecord, NdnInferError, TrustError
from ndn_infer.kv.host import KvHost
from ndn_infer.namespace import Instance, KvBlock, Role
from ndn_infer.ndn.name import Name
from ndn_infer.records import Reply, Request
from ndn_infer.records.bounds import AtMost, Digest, Label
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.direct import DirectAsk, Topic
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS

log = logging.getLogger(__name__)

HOLDS: Final = "holds"
"""The topic of the question which blocks an identity holds."""

TAG_BYTES: Final = 8
"""Of each chain value. Two blocks with the same tag are mixed up once in 2**64, and then refused by name."""

MAX_ASKED: Final = 8
MAX_KNOWN: Final = 64
MAX_HINTS: Final = 8
HOLDER_ROLES: Final = ("prefill", "decode")
LIAR_S: Final = 60.0
SILENT_S: Final = 5.0
LED_S: Final = 10.0


MAX_HOLDS: Final = 512
"""Blocks of one question who holds them: what fits an Interest, and its answer a Data packet."""
MAX_QUESTIONS: Final = 16
"""To one holder in one search: 131,072 tokens in blocks of 16."""


@dataclass(frozen=True, slots=True)
class HoldsQuery(Request):
    """Which of these KV blocks do you hold? `tags` are the first 8 bytes of each chain value, one after another."""

    model: Digest
    domain: Label
    codec: Label
    layers: Label
    tags: Annotated[bytes, AtMost(8 * MAX_HOLDS)]


@dataclass(frozen=True, slots=True)
class Holdings(Reply):
    """Answer to HoldsQuery: for every tag the version of the object, 8 bytes big-endian; 0 for a block not held.

    A claim, not a proof: whoever acts on it verifies each object under the name that the version completes.
    """

    versions: Annotated[bytes, AtMost(8 * MAX_HOLDS)]


@dataclass(slots=True)
class _Known:
    """Monotonic seconds. `avoid_until`: not asked before; `led_until`: names of blocks lead to it until then."""

    avoid_until: float = 0.0
    led_until: float = 0.0


class HolderBook:
    """Producers known to hold KV, the one heard of last first. Pure: `now` is passed in."""

    def __init__(self) -> None:
        self._known: OrderedDict[Name, _Known] = OrderedDict()

    def heard(self, identity: Name) -> None:
        """A block signed by it was verified, or its own answer says that it makes some."""
        self._entry(identity)
        self._known.move_to_end(identity)

    def led_to(self, identity: Name, now: float) -> None:
        """A block that it signed came from it, and not from a cache, to an Interest without any hint."""
        self._entry(identity).led_until = now + LED_S

    def strayed(self, identity: Name) -> None:
        """An Interest without any hint for a block that it claims did not lead to it."""
        self._entry(identity).led_until = 0.0

    def way(self, identity: Name, now: float) -> tuple[Name, ...]:
        """Forwarding hints that lead to it: none where names of blocks do, for a while. Interests with a hint are
        longer, and each forwarder looks up two names."""
        known = self._known.get(identity)
        return () if known is not None and now < known.led_until else (identity,)

    def lied(self, identity: Name, now: float) -> bool:
        """It claimed a block that could not be had from it. Whether that is news."""
        known = self._entry(identity)
        news = known.avoid_until < now + LIAR_S - SILENT_S
        known.avoid_until = now + LIAR_S
        return news

    def silent(self, identity: Name, now: float) -> None:
        known = self._entry(identity)
        known.avoid_until = max(known.avoid_until, now + SILENT_S)

    def _entry(self, identity: Name) -> _Known:
        known = self._known.setdefault(identity, _Known())
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    def to_ask(self, first: Iterable[Name], now: float, *, own: frozenset[Name] = frozenset()) -> list[Name]:
        """At most MAX_ASKED: those named for this very prompt, then those heard of last."""
        chosen: dict[Name, None] = {}
        for identity in (*first, *reversed(self._known)):
            known = self._known.get(identity)
            if identity not in own and (known is None or known.avoid_until <= now):
                chosen[identity] = None
        return list(chosen)[:MAX_ASKED]


def holders_in(net: Name, uris: Sequence[str]) -> tuple[Name, ...]:
    """Identities that may hold KV, of those that somebody named; what is none is left out."""
    found = []
    for uri in uris[:MAX_HINTS]:
        try:
            identity = ndn.from_uri(uri)
        except NdnInferError:
            continue
        role = Role.parse(net, identity)
        if role is not None and role.role in HOLDER_ROLES:
            found.append(identity)
    return tuple(found)


def identity_of(net: Name, hint: Name) -> Name:
    """The identity of a producer whose routable name is `hint`: itself, or what stands before its process."""
    return ndn.prefix(hint, -2) if Instance.parse(net, hint) is not None else hint


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose blocks, in which form: what is asked about, and what all their names have in common."""

    model: str
    domain: str
    codec: str
    layers: str

    def name(self, net: Name, value: bytes) -> Name:
        """Base name of the block whose chain value is `value`, 32 bytes."""
        before, after = _around(self, net)
        return b"".join((before, value.hex().encode(), after))

    def uri(self, net: Name, value: bytes) -> str:
        """`name` as a URI."""
        before, after = _around_uri(self, net)
        return f"{before}{value.hex()}{after}"

    def value_of(self, net: Name, base: Name) -> bytes | None:
        """Chain value of the block with this base name; None when it is none of these."""
        block = KvBlock.parse(net, base)
        if block is None or Subject(block.model, block.domain, block.codec, block.layers) != self:
            return None
        return bytes.fromhex(block.chain)

    def asked_by(self, query: HoldsQuery) -> bool:
        """Whether a question is for these blocks."""
        return Subject(query.model, query.domain, query.codec, query.layers) == self

    def query(self, values: Sequence[bytes]) -> HoldsQuery:
        """Which of `values`, at most MAX_HOLDS, are held?"""
        tags = b"".join([value[:TAG_BYTES] for value in values])
        return HoldsQuery(self.model, self.domain, self.codec, self.layers, tags)


NO_CHAIN: Final = "0" * 64


@lru_cache(maxsize=256)
def _around(subject: Subject, net: Name) -> tuple[bytes, bytes]:
    """What stands before and after the digits of the chain value in the names of all its blocks: a holder is asked for
    hundreds of blocks at once."""
    name = KvBlock(subject.model, subject.domain, subject.codec, NO_CHAIN, subject.layers).to_name(net)
    before, _, after = name.rpartition(NO_CHAIN.encode())
    return before, after


@lru_cache(maxsize=256)
def _around_uri(subject: Subject, net: Name) -> tuple[str, str]:
    """As _around, of URIs."""
    before, _, after = ndn.to_uri(NO_CHAIN.encode().join(_around(subject, net))).rpartition(NO_CHAIN)
    return before, after


async def ask(
    host: KvHost, subject: Subject, identity: Name, values: Sequence[bytes], patience_s: float
) -> list[int] | None:
    """The version of every block that `identity` says it holds, 0 for the others; None when it gives no good answer to
    the first question. Questions about MAX_HOLDS blocks each leave at once, the first one in this turn of the loop;
    more than MAX_QUESTIONS do not."""
    parts = [values[at : at + MAX_HOLDS] for at in range(0, len(values), MAX_HOLDS)][:MAX_QUESTIONS]
    async with asyncio.TaskGroup() as group:
        others = [group.create_task(_ask(host, subject, identity, part, patience_s)) for part in parts[1:]]
        first = await _ask(host, subject, identity, parts[0], patience_s)
    if first is None:
        return None
    told = [first, *(task.result() for task in others)]
    versions = list(
        itertools.chain.from_iterable(
            [0] * len(part) if answer is None else answer for part, answer in zip(parts, told, strict=True)
        )
    )
    return versions + [0] * (len(values) - len(versions))


async def _ask(
    host: KvHost, subject: Subject, identity: Name, values: Sequence[bytes], patience_s: float
) -> list[int] | None:
    """One question."""
    query, lifetime_ms = subject.query(values), max(1, round(patience_s * 1000))
    try:
        told = await host.caller.direct.ask(DirectAsk(identity, HOLDS, query, lifetime_ms=lifetime_ms), Holdings)
        if len(told.record.versions) != 8 * len(values):
            raise BadRecord(f"{len(told.record.versions)} bytes of versions for {len(values)} blocks")
    except NdnInferError as error:
        if isinstance(error, TrustError | BadRecord):
            log.warning("what %s says about its KV is refused: %s", ndn.to_uri(identity), error)
        return None
    return list(struct.unpack(f">{len(values)}Q", told.record.versions))


def answer(
    host: KvHost, signer: Signer, model: str, versions_of: Callable[[Sequence[bytes], HoldsQuery], Sequence[int]]
) -> None:
    """Answer such questions about `model` for the identity of `signer`. `versions_of` maps the tags of a question to
    the versions that are held, 0 for none."""

    def holdings(query: HoldsQuery, _: object) -> Holdings | None:
        if query.model != model:
            return None
        if len(query.tags) % TAG_BYTES:
            raise BadRecord(f"tags have {TAG_BYTES} bytes each, not {len(query.tags)} in all")
        tags = [query.tags[at : at + TAG_BYTES] for at in range(0, len(query.tags), TAG_BYTES)]
        host.counters["kv_holdings_told"] += 1
        return Holdings(struct.pack(f">{len(tags)}Q", *versions_of(tags, query)))

    host.questions.answer(Topic(HOLDS, HoldsQuery, holdings, freshness_ms=ABSENT_FRESHNESS_MS), signer)
