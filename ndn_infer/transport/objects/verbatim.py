"""An object's packets, as its producer made them: what a repo keeps, rather than the contents.

Owns: pulling every packet of a discovered object, checked against the manifest. Must not know: stores, keys.
"""

from __future__ import annotations

from collections.abc import Callable

from ndn_infer import ndn
from ndn_infer.config import FetchConfig
from ndn_infer.errors import BadPacket, FetchIncomplete, NetworkError
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import Data
from ndn_infer.transport.objects.pull import PullLoop
from ndn_infer.wire.manifest import Manifest, ObjectPackets
from ndn_infer.wire.segment_runs import SegmentRun
from ndn_infer.wire.segments import Segments


class _Kept(Segments):
    """Segments that remember the packets that carried them."""

    def __init__(self, prefix: Name, digests: bytes, *, size: int, hints: tuple[Name, ...], lifetime_ms: int) -> None:
        super().__init__(prefix, len(digests) // 32, digests, size=size, hints=hints, lifetime_ms=lifetime_ms)
        self.wires: dict[int, bytes] = {}

    def accept(self, number: int, wire: bytes) -> bool:
        taken = super().accept(number, wire)
        if taken:
            self.wires[number] = wire
        return taken

    def accept_run(self, run: SegmentRun) -> list[int]:
        return []  # packets of a run are overwritten; these are kept


async def pull_packets(
    pulls: PullLoop, manifest: Manifest, metadata: Data, config: FetchConfig, *, hints: tuple[Name, ...] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ObjectPackets:  # fmt: skip
    """All packets of the object that a *verified* metadata packet describes. The deadline of the configuration is for
    one segment at least: as long as some arrive, it goes on. `progress` is told (segments there, segments in all).
    Raises FetchIncomplete, a TrustError."""
    packets: dict[Name, bytes] = {}

    async def pull(prefix: Name, digests: bytes, size: int) -> _Kept:
        segments = _Kept(prefix, digests, size=size, hints=hints, lifetime_ms=config.lifetime_ms)
        while not segments.complete:
            before = len(segments.missing)
            work = pulls.pull(segments)
            work.progress = lambda: progress(segments.count - len(segments.missing), segments.count)
            try:
                await work.future
            except NetworkError as error:
                missing = tuple(sorted(segments.missing))
                if len(missing) == before:
                    text = f"{ndn.to_uri(prefix)}: {len(missing)} of {segments.count} segments missing ({error})"
                    raise FetchIncomplete(text, missing=missing) from error
            finally:
                pulls.leave(work)
        for number in range(segments.count):
            packets[segments.name(number)] = segments.wires[number]
        return segments

    if not manifest.digests:
        upper = await pull(manifest.manifest_prefix, manifest.manifest_digests, 32 * manifest.segments)
        manifest = manifest.with_digests(b"".join(map(upper.contents.__getitem__, range(upper.count))))
    size = sum(map(len, (await pull(manifest.name, manifest.digests, manifest.size)).contents.values()))
    if size != manifest.size:
        raise BadPacket(f"{ndn.to_uri(manifest.name)} has {size} bytes, its manifest says {manifest.size}")
    base = manifest.base
    if not metadata.name.startswith(base + METADATA):
        raise BadPacket(f"{ndn.to_uri(metadata.name)} does not describe {ndn.to_uri(base)}")
    return ObjectPackets(base, manifest, metadata.wire, metadata.name, packets)
