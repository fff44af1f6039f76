"""Fetching: objects by name, every byte verified.

Owns: discovery of an object's manifest, its second level, and the ways to read it: whole (whoever reads so says of how
many bytes at most), in order as it arrives, a range, or on from where an earlier try ended. Segments come through one
congestion-controlled window (pull.py) and are checked by wire.segments, which also gets past a poisoned cache. Must not
know: what the bytes mean.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.config import FetchConfig
from ndn_infer.errors import (
    BadPacket,
    BadRecord,
    DigestMismatch,
    FetchIncomplete,
    NdnInferError,
    NetworkError,
    Timeout,
    TrustError,
)
from ndn_infer.ndn.name import Name
from ndn_infer.security.validator import Validator
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.objects import self_certified
from ndn_infer.transport.objects.discovery import NO_ROUTE_S, Discovery
from ndn_infer.transport.objects.fetched import Discovered, Fetched, FetchStats, Placed
from ndn_infer.transport.objects.ledger import CONTENT_STORE, Came, Ledger, source_of
from ndn_infer.transport.objects.pull import PullLoop, StreamedPull
from ndn_infer.transport.objects.side_by_side import SideBySide
from ndn_infer.transport.objects.verbatim import pull_packets
from ndn_infer.wire.manifest import Manifest, ObjectPackets
from ndn_infer.wire.puller import PullStats
from ndn_infer.wire.segments import Segments, check_range, uniform_bytes

log = logging.getLogger(__name__)

LEAST_GOODPUT: Final = 32_768
"""Bytes per second: who sends an object's packets slower is not waited for."""


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
        if ledger is not None:
            self._pulls.on_refused = lambda name, error, wire: ledger.refused(name, error, Came(wire))
        self._counts = FetchStats(pull=self._pulls.stats)
        self._discovery = Discovery(endpoint, validator, self._pulls, self._counts)

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

    def apart(self, *, deadline_s: float, window_limit: int) -> Fetcher:
        """Another one over the same endpoint, with a window of its own: what it fetches slows nothing of ours."""
        config = replace(self._config, deadline_s=deadline_s, window_limit=window_limit)
        return Fetcher(self._endpoint, self._validator, config, ledger=self._ledger)

    # ------------------------------------------------------------ discovery

    async def discover(
        self, base: Name, *, hints: tuple[Name, ...] = (), version: int | None = None, past_caches: bool = False,
        patient: bool = True,
    ) -> Discovered:  # fmt: skip
        """As Discovery.discover."""
        return await self._discovery.discover(
            base, hints=hints, version=version, past_caches=past_caches, patient=patient
        )  # fmt: skip

    async def await_object(
        self, base: Name, *, hints: tuple[Name, ...], deadline_s: float, no_route_s: float = NO_ROUTE_S
    ) -> Discovered:  # fmt: skip
        """As Discovery.await_object."""
        return await self._discovery.await_object(base, hints=hints, deadline_s=deadline_s, no_route_s=no_route_s)

    # ------------------------------------------------------------ reading

    async def fetch(
        self, base: Name, *, most: int, hints: tuple[Name, ...] = (), elsewhere: Sequence[Name] = ()
    ) -> Fetched:
        """The whole object at `base`, verified. Raises FetchIncomplete, Timeout, Nacked or a TrustError; BadRecord for
        one of more than `most` bytes, of which nothing is fetched but what says so.

        When its segments cannot be had, the metadata may be an old one that somebody played back: it is asked for
        again past caches, and if there is a newer version that one is fetched. So it is when the content is not what
        the name says (self_certified.py), or too large. `elsewhere` are identities to ask then, one after the other.
        """
        error: NdnInferError | None = None
        tried: Name = b""
        places = [hints, hints, *((identity,) for identity in elsewhere if (identity,) != hints)]
        for number, place in enumerate(places):
            if number == 1 and not isinstance(error, FetchIncomplete | DigestMismatch | BadRecord):
                continue  # nothing came: caches have no part in that
            try:
                found = await self.discover(base, hints=place, past_caches=number > 0)
                if number == 1 and (found.manifest is None or found.manifest.name == tried):
                    continue
                tried = found.manifest.name if found.manifest is not None else b""
                return await self.collect(found, most=most, hints=place)
            except (NetworkError, TrustError, BadRecord) as failed:
                error = failed if error is None or isinstance(failed, TrustError) else error
        assert error is not None
        raise error

    async def packets(
        self, found: Discovered, *, most: int, hints: tuple[Name, ...] = (),
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> ObjectPackets:  # fmt: skip
        """All packets of a discovered object as its producer made them, verified: whoever hands them on signs nothing.
        Raises as `collect`, and Timeout where they come slower than LEAST_GOODPUT."""
        manifest = self._manifest(found)
        _check_most(manifest, most)
        try:
            async with asyncio.timeout(self._config.deadline_s + manifest.size / LEAST_GOODPUT):
                packets = await pull_packets(
                    self._pulls, manifest, found.data, self._config, hints=hints, progress=progress
                )
        except TimeoutError as error:
            raise Timeout(f"{ndn.to_uri(manifest.name)} comes too slowly") from error
        whole = self_certified.applies(self._validator.net, packets.base)
        self._accept(found, packets.content() if whole else b"")
        return packets

    async def collect(
        self, found: Discovered, *, most: int, hints: tuple[Name, ...] = (),
        have: Mapping[int, bytes | memoryview] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fetched:  # fmt: skip
        """The content that a discovered manifest describes; BadRecord where that is more than `most` bytes.

        `have` are verified contents by segment number from an earlier try (FetchIncomplete.contents): they are not
        fetched again. `progress` is told (segments there, segments in all). Raises as `fetch` does.
        """
        manifest = self._manifest(found)
        _check_most(manifest, most)
        return await self._collect(found, manifest, hints, have=have, progress=progress)

    async def _collect(
        self, found: Discovered, manifest: Manifest, hints: tuple[Name, ...], *,
        have: Mapping[int, bytes | memoryview] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fetched:  # fmt: skip
        source = source_of(found.arrival, manifest.name)
        if manifest.inline is not None:
            self._accept(found, manifest.inline)
            return Fetched(
                manifest.name, manifest.inline, found.signed_by, source, 0, 0, fresh_s=found.fresh_s
            )  # fmt: skip
        began = clock.monotonic()
        room = io.BytesIO(bytes(manifest.size if uniform_bytes(manifest) else 0))  # zeros that take no memory yet
        with room.getbuffer() as view:
            segments = await self._segments(manifest, hints, have=have, into=view if len(view) else None)
            await self._pull(segments, progress)
        # What was written to the room becomes the content without being copied.
        content = room.getvalue() or b"".join(map(segments.contents.__getitem__, range(manifest.segments)))
        _check_size(manifest, len(content))
        self._accept(found, content)
        seconds = clock.monotonic() - began
        self._counts.count(len(content))
        stored = segments.from_content_store
        if self._ledger is not None:
            of = CONTENT_STORE if stored == manifest.segments else source
            how = Came(b"", began, manifest.segments, len(content))
            self._ledger.collected(manifest.name, of, found.signed_by, how)
        return Fetched(
            manifest.name, content, found.signed_by, source, manifest.segments, stored, seconds, found.fresh_s
        )  # fmt: skip

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
        began, stored = clock.monotonic(), 0
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
        self._accept(found, view)
        seconds = clock.monotonic() - began
        self._counts.count(manifest.size)
        return Placed(manifest.name, manifest.size, found.signed_by, manifest.segments, stored, seconds)

    @asynccontextmanager
    async def side_by_side(
        self, parts: Sequence[tuple[Discovered, tuple[Name, ...], bytearray]]
    ) -> AsyncIterator[SideBySide]:
        """Write objects to the beginnings of buffers, all at once: iterate what is given. `parts`: what was found,
        hints, buffer; each `in_place`. Not for names that certify their content, which is complete too late here.
        Raises as `collect` for manifests."""
        pieces = []
        for item, hints, buffer in parts:
            manifest = self._manifest(item)
            pieces.append(await self._segments(manifest, hints, into=memoryview(buffer)[: manifest.size]))
        reading = SideBySide(self._pulls, pieces)
        try:
            yield reading
        finally:
            self._counts.bad_packets += reading.close()
            size = sum(len(part[2]) for part, item in zip(parts, pieces, strict=True) if item.complete)
            self._counts.count(size)

    async def stream(
        self, found: Discovered, *, hints: tuple[Name, ...] = ()
    ) -> AsyncGenerator[bytes | memoryview, None]:
        """The verified content in order, in pieces, as they arrive. A reader that is slower than the network holds the
        network back. Raises as `collect` does, at any step; what was handed over by then is good."""
        manifest = self._manifest(found)
        if self._only_whole(manifest):
            yield (await self._collect(found, manifest, hints)).content
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
        if self._only_whole(manifest):
            content = (await self._collect(found, manifest, hints)).content
            return content[slice(*check_range(len(content), start, length))]
        start, end = check_range(manifest.size, start, length)
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

    def _only_whole(self, manifest: Manifest) -> bool:
        """Whether it came whole, or can only be judged as a whole."""
        return manifest.inline is not None or self_certified.applies(
            self._validator.net, ndn.prefix(manifest.name, -1)
        )  # fmt: skip

    def _accept(self, found: Discovered, content: bytes | memoryview) -> None:
        """The last check of a whole content: whether it is what its name says. Raises DigestMismatch."""
        manifest = found.manifest
        assert manifest is not None
        base = ndn.prefix(manifest.name, -1)
        try:
            kind = self_certified.check(self._validator.net, base, content, found.signed_by.identity)
        except TrustError:
            self._counts.bad_packets += 1
            raise
        if kind is not None and kind.lasting:
            self._validator.seen.accept(type(kind).__name__, base, manifest.version)

    def _manifest(self, found: Discovered) -> Manifest:
        if found.manifest is None:
            raise Timeout(f"no such object: {ndn.to_uri(found.data.name)} (its producer says so)")
        if self._ledger is not None:
            source, how = source_of(found.arrival, found.manifest.name), Came(found.data.wire, found.began)
            self._ledger.used(found.data.name, source, found.signed_by, how)
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
            manifest.name, manifest.segments, manifest.digests, size=manifest.size, hints=hints,
            lifetime_ms=lifetime_ms, wanted=wanted, have=have, into=into,
        )  # fmt: skip

    async def _second_level(self, manifest: Manifest, hints: tuple[Name, ...]) -> Manifest:
        count = len(manifest.manifest_digests) // 32
        lifetime_ms = self._config.lifetime_ms
        digests = manifest.manifest_digests
        segments = Segments(
            manifest.manifest_prefix, count, digests, size=32 * manifest.segments, hints=hints, lifetime_ms=lifetime_ms
        )
        await self._pull(segments)
        return manifest.with_digests(b"".join(map(segments.contents.__getitem__, range(count))))

    async def _pull(self, segments: Segments, progress: Callable[[int, int], None] | None = None) -> None:
        wanted = len(segments.missing) + segments.had
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


def _check_most(manifest: Manifest, most: int) -> None:
    if manifest.size > most:
        name = ndn.to_uri(manifest.name)
        raise BadRecord(f"{name} has {manifest.size} bytes; {most} are the most that are read of it")


def _check_size(manifest: Manifest, size: int) -> None:
    if size != manifest.size:
        raise DigestMismatch(f"{ndn.to_uri(manifest.name)} has {size} bytes, its manifest says otherwise")
