"""Fetching: objects by name, every byte verified, through one congestion-controlled window.

Owns: driving wire.puller over an endpoint (one timer, no decisions of its own), discovery of an object's manifest,
verification of every segment against it, and getting past a poisoned cache. Must not know: what the bytes mean.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ndn_infer import name as ndn
from ndn_infer.config import FetchConfig
from ndn_infer.errors import (
    BadPacket,
    DigestMismatch,
    FetchIncomplete,
    Nacked,
    NdnInferError,
    NetworkError,
    Timeout,
    TrustError,
)
from ndn_infer.lp import REASON_TEXT
from ndn_infer.name import METADATA, Name
from ndn_infer.packet import Data, decode_data, encode_interest
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.transport.endpoint import Arrival, Endpoint, Pending
from ndn_infer.transport.ledger import Ledger, source_of
from ndn_infer.wire.congestion import CubicWindow
from ndn_infer.wire.manifest import DIGESTS_PER_SEGMENT, Manifest, decode_manifest, is_absent
from ndn_infer.wire.puller import Failure, Puller, PullStats

log = logging.getLogger(__name__)

WAITING_LIFETIME_MS = 1000
"""Interests for what does not exist yet are renewed so often: a lost one costs a second, not its whole lifetime."""

DISTRUST_ATTEMPTS = 3
"""How often a metadata packet that does not verify is asked for again."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole object, verified. `source` says where its metadata came from; `segments_from_store` counts segments that
    this machine's Content Store gave."""

    name: Name
    content: bytes
    signed_by: Validated
    source: str
    segments: int
    segments_from_store: int


@dataclass(slots=True, eq=False)
class _Want:
    """One packet wanted through the window. `accept` raises TrustError or BadPacket to have it asked for again."""

    name: Name
    accept: Callable[[bytes, Arrival], None]
    future: asyncio.Future[None]
    can_be_prefix: bool = False
    must_be_fresh: bool = False
    hints: tuple[Name, ...] = ()
    past_caches: Name | None = None
    refusals: int = 0
    pending: Pending | None = field(default=None)


class PullLoop:
    """Runs one Puller over one endpoint. All wants of all objects share its window."""

    def __init__(self, endpoint: Endpoint, config: FetchConfig) -> None:
        self._endpoint = endpoint
        self._config = config
        self._loop = asyncio.get_running_loop()
        window = CubicWindow(size=float(config.window_initial), limit=float(config.window_limit))
        self._puller = Puller(window=window)
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False

    @property
    def stats(self) -> PullStats:
        return self._puller.stats

    def want(self, want: _Want) -> None:
        self._puller.want(want, self._loop.time() + self._config.deadline_s)

    def pump(self) -> None:
        """Send what is due, fail what is given up, and come back in time."""
        if self._pumping:  # an answer that arrives while sending (an in-process link) is counted when we are done
            self._loop.call_soon(self.pump)
            return
        self._pumping = True
        now = self._loop.time()
        self._puller.on_timer(now)
        for key in self._puller.due(now):
            assert isinstance(key, _Want)
            self._send(key)
        failures, self._puller.failures = self._puller.failures, []
        for failure in failures:
            self._fail(failure)
        self._pumping = False
        self._arm()

    def drop(self, want: _Want) -> None:
        self._puller.forget(want)
        if want.pending is not None:
            self._endpoint.forget(want.pending)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wake = self._puller.next_wake()
        self._timer = None if wake is None else self._loop.call_at(wake, self.pump)

    def _send(self, want: _Want) -> None:
        name = want.name if want.past_caches is None else want.past_caches
        if want.pending is not None:
            self._endpoint.forget(want.pending)
        # Data for an Interest with an implicit digest comes back under the name without it.
        want.pending = Pending(
            want.name,
            want.can_be_prefix,
            lambda wire, _, arrival: self._on_data(want, wire, arrival),
            lambda reason: self._on_nack(want, reason),
        )
        wire, _ = encode_interest(
            name,
            nonce=os.urandom(4),
            can_be_prefix=want.can_be_prefix,
            must_be_fresh=want.must_be_fresh,
            hints=want.hints,
            lifetime_ms=self._config.lifetime_ms,
        )
        self._endpoint.send_interest(wire, want.pending)

    def _on_data(self, want: _Want, wire: bytes, arrival: Arrival) -> None:
        now = self._loop.time()
        try:
            want.accept(wire, arrival)
        except (TrustError, BadPacket) as error:
            want.refusals += 1
            log.warning("refused a packet for %s: %s", ndn.to_uri(want.name), error)
            if want.refusals > DISTRUST_ATTEMPTS:
                self._puller.forget(want)
                if not want.future.done():
                    want.future.set_exception(error)
            else:
                self._puller.refused(want, now)
        else:
            if self._puller.on_data(want, marked=arrival.marked, now=now) and not want.future.done():
                want.future.set_result(None)
        self.pump()

    def _on_nack(self, want: _Want, reason: int) -> None:
        self._puller.on_nack(want, reason, self._loop.time())
        self.pump()

    def _fail(self, failure: Failure) -> None:
        want = failure.key
        assert isinstance(want, _Want)
        if want.pending is not None:
            self._endpoint.forget(want.pending)
        if want.future.done():
            return
        uri = ndn.to_uri(want.name)
        if failure.reason == "nack":
            text = REASON_TEXT.get(failure.nack_reason, str(failure.nack_reason))
            want.future.set_exception(Nacked(f"{text} for {uri}", reason=failure.nack_reason))
        else:
            want.future.set_exception(Timeout(f"nobody answered for {uri}"))


@dataclass(frozen=True, slots=True)
class Discovered:
    """A verified metadata packet. `manifest` is None when its producer says that it has no such object."""

    manifest: Manifest | None
    data: Data
    signed_by: Validated
    arrival: Arrival


class Fetcher:
    """Fetches objects over one endpoint; all of them share one window. `ledger` is told of every name used."""

    def __init__(
        self, endpoint: Endpoint, validator: Validator, config: FetchConfig, *, ledger: Ledger | None = None
    ) -> None:
        self._endpoint = endpoint
        self._validator = validator
        self._config = config
        self._ledger = ledger
        self._pulls = PullLoop(endpoint, config)
        self.bad_packets = 0

    @property
    def stats(self) -> PullStats:
        return self._pulls.stats

    async def discover(self, base: Name, *, hints: tuple[Name, ...] = ()) -> Discovered:
        """The newest version of the object at `base` and its verified manifest: one round trip.

        Raises Timeout, Nacked, or the TrustError of the last bad packet.
        """
        last: NdnInferError | None = None
        for _ in range(DISTRUST_ATTEMPTS):
            packets: list[tuple[Data, Arrival]] = []

            def accept(wire: bytes, arrival: Arrival, into: list[tuple[Data, Arrival]] = packets) -> None:
                into.append((decode_data(wire), arrival))

            want = self._make(base + METADATA, accept, can_be_prefix=True, must_be_fresh=True, hints=hints)
            await self._run([want])
            try:
                return await self._judge(*packets[0])
            except (TrustError, BadPacket) as error:
                self.bad_packets += 1
                log.warning("refused metadata of %s: %s", ndn.to_uri(base), error)
                last = error
        assert last is not None
        raise last

    async def await_object(self, base: Name, *, hints: tuple[Name, ...], deadline_s: float) -> Discovered:
        """Like `discover`, for an object that is still being made: Interests wait at its producer.

        Raises Timeout when it does not appear within `deadline_s`.
        """
        give_up_at = time.monotonic() + deadline_s
        while True:
            try:
                data, arrival = await self._endpoint.express(
                    base + METADATA, can_be_prefix=True, must_be_fresh=True, hints=hints,
                    lifetime_ms=WAITING_LIFETIME_MS,
                )  # fmt: skip
                return await self._judge(data, arrival)
            except (Timeout, Nacked, TrustError, BadPacket) as error:
                if time.monotonic() >= give_up_at:
                    raise
                if not isinstance(error, Timeout):
                    await asyncio.sleep(0.1)

    async def fetch(self, base: Name, *, hints: tuple[Name, ...] = ()) -> Fetched:
        """The whole object at `base`, verified. Raises FetchIncomplete, Timeout, Nacked or a TrustError."""
        found = await self.discover(base, hints=hints)
        return await self.collect(found, hints=hints)

    async def collect(self, found: Discovered, *, hints: tuple[Name, ...] = ()) -> Fetched:
        """The content that a discovered manifest describes."""
        if found.manifest is None:
            raise Timeout(f"no such object: {ndn.to_uri(found.data.name)} (its producer says so)")
        manifest = found.manifest
        source = source_of(found.arrival, manifest.name)
        if self._ledger is not None:
            self._ledger.used(found.data.name, source, found.signed_by)
        if manifest.inline is not None:
            return Fetched(manifest.name, manifest.inline, found.signed_by, source, 0, 0)
        if not manifest.digests:
            manifest = await self._second_level(manifest, hints)
        pieces: list[bytes] = [b""] * manifest.segments
        stored = await self._segments(manifest, pieces, hints)
        content = b"".join(pieces)
        if len(content) != manifest.size:
            raise DigestMismatch(f"{ndn.to_uri(manifest.name)} has {len(content)} bytes, its manifest says otherwise")
        return Fetched(manifest.name, content, found.signed_by, source, manifest.segments, stored)

    async def _judge(self, data: Data, arrival: Arrival) -> Discovered:
        signed_by = await self._validator.validate(data)
        return Discovered(None if is_absent(data) else decode_manifest(data), data, signed_by, arrival)

    async def _second_level(self, manifest: Manifest, hints: tuple[Name, ...]) -> Manifest:
        count = len(manifest.manifest_digests) // 32
        pieces = [b""] * count

        def acceptor(number: int, want_of: list[_Want]) -> Callable[[bytes, Arrival], None]:
            def accept(wire: bytes, _: Arrival) -> None:
                try:
                    manifest.check_manifest_segment(number, wire)
                except DigestMismatch:  # as with segments: past the cache that holds a bad copy
                    self.bad_packets += 1
                    digest = manifest.manifest_digests[32 * number : 32 * number + 32]
                    want_of[0].past_caches = manifest.manifest_name(number) + ndn.implicit_digest(digest)
                    raise
                pieces[number] = decode_data(wire).content

            return accept

        wants = []
        for number in range(count):
            cell: list[_Want] = []
            cell.append(self._make(manifest.manifest_name(number), acceptor(number, cell), hints=hints))
            wants.append(cell[0])
        await self._run(wants)
        assert count * DIGESTS_PER_SEGMENT >= manifest.segments
        return manifest.with_digests(b"".join(pieces))

    async def _segments(self, manifest: Manifest, pieces: list[bytes], hints: tuple[Name, ...]) -> int:
        """Fill `pieces`; returns how many segments came from this machine's Content Store."""
        stored = 0

        def acceptor(number: int, want_of: list[_Want]) -> Callable[[bytes, Arrival], None]:
            def accept(wire: bytes, arrival: Arrival) -> None:
                nonlocal stored
                try:
                    manifest.check_segment(number, wire)
                except DigestMismatch:
                    # A cache on the path holds a bad copy and would give it again: ask for exactly these bytes, which
                    # only an honest copy can satisfy.
                    self.bad_packets += 1
                    digest = manifest.digests[32 * number : 32 * number + 32]
                    want_of[0].past_caches = manifest.segment_name(number) + ndn.implicit_digest(digest)
                    raise
                pieces[number] = decode_data(wire).content
                stored += arrival.from_content_store

            return accept

        wants = []
        for number in range(manifest.segments):
            cell: list[_Want] = []
            cell.append(self._make(manifest.segment_name(number), acceptor(number, cell), hints=hints))
            wants.append(cell[0])
        try:
            await self._run(wants)
        except NetworkError as error:
            missing = tuple(number for number, want in enumerate(wants) if not _succeeded(want))
            raise FetchIncomplete(
                f"{ndn.to_uri(manifest.name)}: {len(missing)} of {manifest.segments} segments missing ({error})",
                missing=missing,
            ) from error
        return stored

    def _make(
        self,
        name: Name,
        accept: Callable[[bytes, Arrival], None],
        *,
        can_be_prefix: bool = False,
        must_be_fresh: bool = False,
        hints: tuple[Name, ...] = (),
    ) -> _Want:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return _Want(name, accept, future, can_be_prefix, must_be_fresh, hints)

    async def _run(self, wants: list[_Want]) -> None:
        for want in wants:
            self._pulls.want(want)
        self._pulls.pump()
        try:
            await asyncio.gather(*(want.future for want in wants))
        finally:
            for want in wants:
                self._pulls.drop(want)
                if want.future.done() and not want.future.cancelled():
                    want.future.exception()  # seen: only the first failure is raised
                want.future.cancel()


def _succeeded(want: _Want) -> bool:
    return want.future.done() and not want.future.cancelled() and want.future.exception() is None
