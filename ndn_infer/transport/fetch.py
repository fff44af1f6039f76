"""Fetching: objects by name, every byte verified.

Owns: discovery of an object's manifest, its second level, and the ways to read it: whole, in order as it arrives, a
range, or on from where an earlier try ended. Segments come through one congestion-controlled window (pull.py) and are
checked by wire.segments, which also gets past a poisoned cache. Must not know: what the bytes mean.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from ndn_infer import name as ndn
from ndn_infer.config import FetchConfig
from ndn_infer.errors import (
    BadPacket,
    DigestMismatch,
    FetchIncomplete,
    KeyNotAllowed,
    Nacked,
    NdnInferError,
    NetworkError,
    StaleDenial,
    Timeout,
    TrustError,
)
from ndn_infer.name import METADATA, Name
from ndn_infer.packet import Data, decode_data
from ndn_infer.security.validator import Validator
from ndn_infer.transport.endpoint import Arrival, Endpoint
from ndn_infer.transport.fetched import Discovered, Fetched, FetchStats, Placed
from ndn_infer.transport.ledger import Ledger, source_of
from ndn_infer.transport.pull import PullLoop, StreamedPull, Want
from ndn_infer.wire import again
from ndn_infer.wire.columns import Columns
from ndn_infer.wire.manifest import SEGMENT_BYTES, Manifest, decode_manifest, is_absent, said_at
from ndn_infer.wire.puller import PullStats
from ndn_infer.wire.segments import Segments, check_range, uniform_bytes

log = logging.getLogger(__name__)

METADATA_PAUSES_S = (0.0, 0.0, 0.1, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6)
"""Before each attempt at a metadata packet: the last ones come after the validator forgot a bad certificate."""

DENIAL_AGE_S = 10.0
"""An "absent" whose time differs more from our clock is asked for again, with a nonce that it must repeat."""

WAITING_LIFETIME_MS = 1000
"""Interests for what does not exist yet are renewed so often: a lost one costs a second, not its whole lifetime."""


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
        self._counts = FetchStats(pull=self._pulls.stats)

    @property
    def stats(self) -> PullStats:
        return self._pulls.stats

    @property
    def counts(self) -> FetchStats:
        return self._counts

    @property
    def bad_packets(self) -> int:
        return self._counts.bad_packets

    @property
    def round_trip_s(self) -> float | None:
        """Smoothed round-trip time of the window; None before the first answer."""
        return self._pulls.round_trip_s

    @property
    def window(self) -> float:
        """Interests that may be in flight now."""
        return self._pulls.window

    # ------------------------------------------------------------ discovery

    async def discover(
        self, base: Name, *, hints: tuple[Name, ...] = (), version: int | None = None, past_caches: bool = False
    ) -> Discovered:
        """The newest version of the object at `base`, or exactly `version`, and its verified manifest: one round trip.

        What somebody else says about the base, absent for example, is no answer to a question for one version.
        What cannot be believed is asked for again past every cache (wire.again); `past_caches` does so from the start.
        So is an "absent" that was not said just now: somebody may play back an old one.
        Raises Timeout, Nacked, or the TrustError of the last bad packet.
        """
        name = base + METADATA + (b"" if version is None else ndn.version(version) + ndn.segment(0))
        last: NdnInferError | None = None
        refused: set[bytes] = set()
        for pause_s in METADATA_PAUSES_S:
            nonce = os.urandom(again.NONCE_BYTES) if past_caches or last is not None else b""
            await asyncio.sleep(pause_s)
            try:
                data, arrival = await self._metadata(name, hints, nonce, newest=version is None)
                return await self._judge(data, arrival, nonce)
            except KeyNotAllowed as error:
                last = error
                if data.wire in refused and not self._validator.permits(data):
                    break  # the producer itself says so: it has the keys of another role or network
                refused.add(data.wire)
            except (TrustError, BadPacket) as error:
                self._counts.bad_packets += 1
                log.warning("refused metadata of %s: %s", ndn.to_uri(base), error)
                last = error
        assert last is not None
        raise last

    async def await_object(self, base: Name, *, hints: tuple[Name, ...], deadline_s: float) -> Discovered:
        """Like `discover`, for an object that is still being made: Interests wait at its producer.

        Raises Timeout when it does not appear within `deadline_s`.
        """
        give_up_at = time.monotonic() + deadline_s
        name, nonce = base + METADATA, b""
        while True:
            try:
                data, arrival = await self._endpoint.express(
                    again.question(name, nonce) if nonce else name, can_be_prefix=not nonce, must_be_fresh=True,
                    hints=hints, lifetime_ms=WAITING_LIFETIME_MS,
                )  # fmt: skip
                return await self._judge(_inner(data.wire, name, nonce), arrival, nonce)
            except (Timeout, Nacked, TrustError, BadPacket) as error:
                if time.monotonic() >= give_up_at:
                    raise
                if not isinstance(error, Timeout):
                    await asyncio.sleep(0.1)
                if isinstance(error, TrustError | BadPacket):
                    nonce = os.urandom(again.NONCE_BYTES)

    async def _metadata(
        self, name: Name, hints: tuple[Name, ...], nonce: bytes, *, newest: bool
    ) -> tuple[Data, Arrival]:
        """What comes for a discovery, decoded, not verified; with `nonce`, past caches. Raises Timeout, Nacked,
        BadPacket."""
        packets: list[tuple[Data, Arrival]] = []

        def accept(wire: bytes, arrival: Arrival) -> None:
            packets.append((_inner(wire, name, nonce), arrival))

        asked = again.question(name, nonce) if nonce else name
        newest = newest and not nonce
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._one(Want(asked, accept, future, can_be_prefix=newest, must_be_fresh=newest, hints=hints))
        return packets[0]

    async def _judge(self, data: Data, arrival: Arrival, nonce: bytes) -> Discovered:
        signed_by = await self._validator.validate(data)
        if not is_absent(data):
            return Discovered(decode_manifest(data), data, signed_by, arrival)
        if nonce and data.content != nonce:
            raise StaleDenial(f"{ndn.to_uri(data.name)} says that there is none, in answer to another question")
        if not nonce and abs(time.time() * 1e6 - said_at(data)) > DENIAL_AGE_S * 1e6:
            raise StaleDenial(f"{ndn.to_uri(data.name)} said that there is none, but not just now")
        return Discovered(None, data, signed_by, arrival)

    # ------------------------------------------------------------ reading

    async def fetch(self, base: Name, *, hints: tuple[Name, ...] = ()) -> Fetched:
        """The whole object at `base`, verified. Raises FetchIncomplete, Timeout, Nacked or a TrustError.

        When its segments cannot be had, the metadata may be an old one that somebody played back: it is asked for
        again past caches, and if there is a newer version that one is fetched.
        """
        found = await self.discover(base, hints=hints)
        try:
            return await self.collect(found, hints=hints)
        except FetchIncomplete:
            newer = await self.discover(base, hints=hints, past_caches=True)
            if found.manifest is None or newer.manifest is None or newer.manifest.name == found.manifest.name:
                raise
        return await self.collect(newer, hints=hints)

    async def collect(
        self, found: Discovered, *, hints: tuple[Name, ...] = (),
        have: Mapping[int, bytes | memoryview] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fetched:  # fmt: skip
        """The content that a discovered manifest describes.

        `have` are verified contents by segment number from an earlier try (FetchIncomplete.contents): they are not
        fetched again. `progress` is told (segments there, segments in all). Raises as `fetch` does.
        """
        manifest = self._manifest(found)
        source = source_of(found.arrival, manifest.name)
        if manifest.inline is not None:
            return Fetched(manifest.name, manifest.inline, found.signed_by, source, 0, 0)
        began = time.monotonic()
        segments = await self._segments(manifest, hints, have=have)
        await self._pull(segments, progress)
        content = b"".join(map(segments.contents.__getitem__, range(manifest.segments)))
        _check_size(manifest, len(content))
        seconds = time.monotonic() - began
        self._counts.count(len(content), seconds)
        stored = segments.from_content_store
        return Fetched(manifest.name, content, found.signed_by, source, manifest.segments, stored, seconds)

    async def read_into(
        self, found: Discovered, buffer: bytearray | memoryview, *, hints: tuple[Name, ...] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Placed:  # fmt: skip
        """Write the whole content to the beginning of `buffer`, each byte where it will stay.

        For what is large: memory is written once, and may be used again. Raises BadPacket when the buffer is too
        small, else as `collect`; what it holds after an error is not to be used.
        """
        manifest = self._manifest(found)
        view = memoryview(buffer).cast("B")[: manifest.size]
        if len(view) < manifest.size:
            raise BadPacket(f"{ndn.to_uri(manifest.name)} has {manifest.size} bytes, the buffer {len(view)}")
        began, stored = time.monotonic(), 0
        if manifest.inline is not None:
            view[:] = manifest.inline
        elif uniform_bytes(manifest):
            segments = await self._segments(manifest, hints, into=view)
            await self._pull(segments, progress)
            stored = segments.from_content_store
        else:
            at = 0
            async with aclosing(self._in_order(await self._segments(manifest, hints))) as pieces:
                async for piece in pieces:
                    view[at : at + len(piece)] = piece
                    at += len(piece)
            _check_size(manifest, at)
        seconds = time.monotonic() - began
        self._counts.count(manifest.size, seconds)
        return Placed(manifest.name, manifest.size, found.signed_by, manifest.segments, stored, seconds)

    async def read_side_by_side(
        self, parts: Sequence[tuple[Discovered, tuple[Name, ...], bytearray]], arrived: Callable[[int], None]
    ) -> list[bool]:
        """Write objects to the beginnings of buffers, the beginnings of all before the rest of any: `arrived` hears how
        many bytes are there, verified, of every object. `parts`: what was found, hints, buffer; each `in_place`.
        Returns which objects are there whole: one that cannot be had holds up nobody. Raises as `collect` for
        manifests."""
        began, pieces = time.monotonic(), []
        for item, hints, buffer in parts:
            manifest = self._manifest(item)
            pieces.append(await self._segments(manifest, hints, into=memoryview(buffer)[: manifest.size]))
        columns, pulls = Columns(pieces), [self._pulls.open(segments) for segments in pieces]

        def progress(at: int) -> None:
            if columns.moved(at):
                arrived(columns.full * SEGMENT_BYTES)

        try:
            for at, pull in enumerate(pulls):
                pull.progress = partial(progress, at)
            for at, numbers in columns.order():
                self._pulls.extend(pulls[at], numbers)
            await asyncio.gather(*(pull.future for pull in pulls), return_exceptions=True)
        finally:
            for pull in pulls:
                self._counts.bad_packets += pull.segments.refused
                self._pulls.leave(pull)
        size = sum(len(part[2]) for part, item in zip(parts, pieces, strict=True) if item.complete)
        self._counts.count(size, time.monotonic() - began)
        return [segments.complete for segments in pieces]

    async def stream(
        self, found: Discovered, *, hints: tuple[Name, ...] = ()
    ) -> AsyncGenerator[bytes | memoryview, None]:
        """The verified content in order, in pieces, as they arrive. A reader that is slower than the network holds the
        network back. Raises as `collect` does, at any step; what was handed over by then is good."""
        manifest = self._manifest(found)
        if manifest.inline is not None:
            yield manifest.inline
            return
        size = 0
        async with aclosing(self._in_order(await self._segments(manifest, hints))) as pieces:
            async for piece in pieces:
                size += len(piece)
                yield piece
        _check_size(manifest, size)

    async def read(self, found: Discovered, start: int, length: int, *, hints: tuple[Name, ...] = ()) -> bytes:
        """`length` bytes from `start` on (fewer at the object's end). Fetches only the segments that hold them; of a
        sealed stream, whose segments have lengths of their own, all up to the end of the range.

        Raises BadPacket for a range that begins outside the object, else as `collect`.
        """
        manifest = self._manifest(found)
        start, end = check_range(manifest.size, start, length)
        if manifest.inline is not None:
            return manifest.inline[start:end]
        if start == end:
            return b""
        size = uniform_bytes(manifest)
        if not size:
            return await self._read_through(manifest, start, end, hints)
        numbers = range(start // size, (end - 1) // size + 1)
        segments = await self._segments(manifest, hints, wanted=numbers)
        await self._pull(segments)
        joined = b"".join(map(segments.contents.__getitem__, numbers))
        return joined[start - numbers[0] * size : end - numbers[0] * size]

    # ------------------------------------------------------------ inside

    def _manifest(self, found: Discovered) -> Manifest:
        if found.manifest is None:
            raise Timeout(f"no such object: {ndn.to_uri(found.data.name)} (its producer says so)")
        if self._ledger is not None:
            self._ledger.used(found.data.name, source_of(found.arrival, found.manifest.name), found.signed_by)
        return found.manifest

    async def _segments(
        self, manifest: Manifest, hints: tuple[Name, ...], *, wanted: Iterable[int] | None = None,
        have: Mapping[int, bytes | memoryview] | None = None, into: memoryview | None = None,
    ) -> Segments:  # fmt: skip
        """The object's segments, with all digests known: fetches the second level where there is one."""
        if not manifest.digests:
            manifest = await self._second_level(manifest, hints)
        lifetime_ms = self._config.lifetime_ms
        return Segments(
            manifest.name, manifest.segments, manifest.digests, hints=hints, lifetime_ms=lifetime_ms, wanted=wanted,
            have=have, into=into,
        )  # fmt: skip

    async def _second_level(self, manifest: Manifest, hints: tuple[Name, ...]) -> Manifest:
        count = len(manifest.manifest_digests) // 32
        lifetime_ms = self._config.lifetime_ms
        digests = manifest.manifest_digests
        segments = Segments(manifest.manifest_prefix, count, digests, hints=hints, lifetime_ms=lifetime_ms)
        await self._pull(segments)
        return manifest.with_digests(b"".join(map(segments.contents.__getitem__, range(count))))

    async def _pull(self, segments: Segments, progress: Callable[[int, int], None] | None = None) -> None:
        wanted = len(segments.missing) + len(segments.contents)
        pull = self._pulls.pull(segments)
        if progress is not None:
            pull.progress = lambda: progress(wanted - len(segments.missing), wanted)
        try:
            await pull.future
        except NetworkError as error:
            missing = tuple(sorted(segments.missing))
            raise FetchIncomplete(
                f"{ndn.to_uri(segments.prefix)}: {len(missing)} of {wanted} segments missing ({error})",
                missing=missing,
                contents=segments.partial(),
            ) from error
        finally:
            self._counts.bad_packets += segments.refused
            self._pulls.leave(pull)

    async def _in_order(self, segments: Segments) -> AsyncGenerator[bytes | memoryview, None]:
        pull = StreamedPull(self._pulls, segments)
        try:
            while pieces := await pull.next():
                for piece in pieces:
                    yield piece
        except NetworkError as error:
            missing = tuple(sorted(segments.missing))
            raise FetchIncomplete(
                f"{ndn.to_uri(segments.prefix)}: {len(missing)} segments missing ({error})", missing=missing
            ) from error
        finally:
            self._counts.bad_packets += segments.refused
            pull.close()

    async def _read_through(self, manifest: Manifest, start: int, end: int, hints: tuple[Name, ...]) -> bytes:
        found, at = [], 0
        async with aclosing(self._in_order(await self._segments(manifest, hints))) as pieces:
            async for piece in pieces:
                found.append(piece[max(start - at, 0) : max(end - at, 0)])
                at += len(piece)
                if at >= end:
                    break
        return b"".join(found)

    async def _one(self, want: Want) -> None:
        self._pulls.want(want)
        self._pulls.pump_soon()
        try:
            await want.future
        finally:
            self._pulls.drop(want)


def _inner(wire: bytes, name: Name, nonce: bytes) -> Data:
    """The metadata packet that came, alone or as the answer to a question past caches. Raises BadPacket."""
    return decode_data(again.unwrap_named(wire, name, prefix=True) if nonce else wire)


def _check_size(manifest: Manifest, size: int) -> None:
    if size != manifest.size:
        raise DigestMismatch(f"{ndn.to_uri(manifest.name)} has {size} bytes, its manifest says otherwise")
