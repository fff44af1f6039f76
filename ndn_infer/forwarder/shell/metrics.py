"""What the forwarder counts, as Prometheus metrics.

Owns: their names, labels and meaning. Pure: reads the tables when asked. Must not know: HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ndn_infer import ndn
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.shell.cs_disk import DiskTier

_PACKETS = (("in", "interest"), ("in", "data"), ("in", "nack"), ("out", "interest"), ("out", "data"), ("out", "nack"))
_FIELDS = {"interest": "interests", "data": "data", "nack": "nacks"}


class ForwarderCollector:
    """For a CollectorRegistry."""

    def __init__(self, core: Forwarder, disk: Callable[[], DiskTier | None]) -> None:
        self._core = core
        self._disk = disk

    def collect(self) -> Iterator[Metric]:
        yield from self._forwarding()
        yield from self._store()
        yield from self._second_tier()
        yield from self._faces()

    def _forwarding(self) -> Iterator[Metric]:
        counters = self._core.counters
        packets = CounterMetricFamily("ndn_forwarder_packets", "Network packets", labels=["direction", "type"])
        for direction, kind in _PACKETS:
            packets.add_metric([direction, kind], getattr(counters, f"{direction}_{_FIELDS[kind]}"))
        yield packets
        results = CounterMetricFamily("ndn_forwarder_interests", "Pending Interests that ended", labels=["result"])
        results.add_metric(["satisfied"], counters.satisfied)
        results.add_metric(["unsatisfied"], counters.unsatisfied)
        yield results
        drops = CounterMetricFamily("ndn_forwarder_drops", "Packets not forwarded, by reason", labels=["reason"])
        for reason in ("unsolicited", "loops", "scope_violations", "no_route", "pit_full"):
            drops.add_metric([reason], getattr(counters, reason))
        yield drops
        for title, value in (("pit", self._core.pit_size), ("fib", len(self._core.fib))):
            yield GaugeMetricFamily(f"ndn_forwarder_{title}_entries", f"Entries in the {title.upper()}", value=value)

    def _store(self) -> Iterator[Metric]:
        cs = self._core.cs
        yield GaugeMetricFamily(
            "ndn_forwarder_cs_capacity_packets", "Bound of the Content Store", value=cs.capacity_packets
        )
        yield GaugeMetricFamily(
            "ndn_forwarder_cs_capacity_bytes", "Bound of the Content Store", value=cs.capacity_bytes
        )
        kinds: dict[str, Any] = {
            "packets": GaugeMetricFamily("ndn_forwarder_cs_packets", "Packets in memory", labels=["prefix"]),
            "used_bytes": GaugeMetricFamily("ndn_forwarder_cs_bytes", "Bytes in memory", labels=["prefix"]),
            "hits": CounterMetricFamily("ndn_forwarder_cs_hits", "Interests it answered", labels=["prefix"]),
            "disk_hits": CounterMetricFamily("ndn_forwarder_cs_disk_hits", "Of these from disk", labels=["prefix"]),
            "misses": CounterMetricFamily("ndn_forwarder_cs_misses", "Interests it did not answer", labels=["prefix"]),
            "inserted": CounterMetricFamily("ndn_forwarder_cs_insertions", "Packets kept", labels=["prefix"]),
            "evicted": CounterMetricFamily("ndn_forwarder_cs_evictions", "Packets evicted", labels=["prefix"]),
        }
        for kind in cs.classes.all():
            for key, family in kinds.items():
                family.add_metric([ndn.to_uri(kind.prefix)], getattr(kind, key))
        yield from kinds.values()

    def _second_tier(self) -> Iterator[Metric]:
        disk = self._disk()
        if disk is None:
            return
        yield GaugeMetricFamily("ndn_forwarder_cs_disk_packets", "Packets on disk", value=disk.packets)
        yield GaugeMetricFamily("ndn_forwarder_cs_disk_bytes", "Bytes on disk", value=disk.used_bytes)
        yield CounterMetricFamily("ndn_forwarder_cs_disk_written", "Packets written to disk", value=disk.written)
        yield CounterMetricFamily("ndn_forwarder_cs_disk_corrupt", "Damaged packets found on disk", value=disk.corrupt)
        yield CounterMetricFamily(
            "ndn_forwarder_cs_disk_failed", "Packets that could not be written", value=disk.failed
        )

    def _faces(self) -> Iterator[Metric]:
        faces = self._core.faces.values()
        yield GaugeMetricFamily("ndn_forwarder_faces", "Faces", value=len(faces))
        labels = ["face", "uri"]
        packets = CounterMetricFamily(
            "ndn_forwarder_face_packets", "Network packets of a face", labels=[*labels, "direction", "type"]
        )
        size = CounterMetricFamily("ndn_forwarder_face_bytes", "Bytes of a face", labels=[*labels, "direction"])
        drops = CounterMetricFamily("ndn_forwarder_face_drops", "Packets lost at a face", labels=[*labels, "reason"])
        marks = CounterMetricFamily("ndn_forwarder_face_congestion_marks", "Packets marked", labels=labels)
        queue = GaugeMetricFamily("ndn_forwarder_face_queue_bytes", "Bytes that wait to be sent", labels=labels)
        for face in faces:
            label, counters = [str(face.id), face.uri], face.counters
            for direction, kind in _PACKETS:
                packets.add_metric([*label, direction, kind], getattr(counters, f"{direction}_{_FIELDS[kind]}"))
            size.add_metric([*label, "in"], counters.in_bytes)
            size.add_metric([*label, "out"], counters.out_bytes)
            for reason in ("malformed", "dropped", "queue_drops"):
                drops.add_metric([*label, reason], getattr(counters, reason))
            marks.add_metric(label, counters.marked)
            queue.add_metric(label, face.link.queued_bytes())
        yield from (packets, size, drops, marks, queue)
