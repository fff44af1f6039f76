"""The embedded forwarder as a running thing: core, management, sockets, one timer.

Owns: start, stop and reload, the clock, who may command. Must not know: forwarding rules (pipeline.py), commands
(management.py), what sockets there are (ports.py, dialer.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ndn_infer.config import ForwarderConfig
from ndn_infer.config import values as forms
from ndn_infer.forwarder.core.admission import FaceAdmission
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.cs_classes import CsClasses
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.management.manager import Management
from ndn_infer.forwarder.shell.core_timer import CoreTimer
from ndn_infer.forwarder.shell.cs_disk import DiskTier
from ndn_infer.forwarder.shell.dialer import Dialer
from ndn_infer.forwarder.shell.door import CommandCheck, CommandDoor
from ndn_infer.forwarder.shell.forwarder_samples import ForwarderSamples, HitsByKind
from ndn_infer.forwarder.shell.listeners import Address
from ndn_infer.forwarder.shell.ports import Ports
from ndn_infer.forwarder.shell.transports import StreamFace
from ndn_infer.forwarder.shell.turns import Output
from ndn_infer.metrics.meters import Meters
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.tlv import READ_BYTES

if TYPE_CHECKING:
    from ndn_infer.metrics.exposition import Exposition
    from ndn_infer.metrics.listener import MetricsListener

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S: Final = 10.0
DISK_FLUSH_INTERVAL_S: Final = 1.0


class ForwarderDaemon:
    """`await start()`, use, `await close()`. Raises AddressTaken when a socket or port belongs to somebody else, and
    ConfigError for other reasons not to listen there or not to keep a store.

    `check` decides about commands that `options` want signed; it may be set while the daemon runs. `kind_of` says of
    what kind a name is, for the metrics.
    """

    def __init__(
        self, options: ForwarderConfig, *, check: CommandCheck | None = None,
        kind_of: Callable[[Name], str] | None = None,
    ) -> None:  # fmt: skip
        self.options = options
        self._door = CommandDoor(lambda: self.options, self._settle_now)
        self.check = check
        self.disk: DiskTier | None = None
        self.backlogged = 0
        self.queue_room = options.all_queues_mib << 20
        self.admission = FaceAdmission(options.max_stream_faces)
        cs = ContentStore(options.cs_capacity_packets, options.cs_capacity_mib << 20, classes=_classes(options))
        self.core = Forwarder(
            cs,
            producer_regions=_names(options.producer_regions),
            pit_capacity=options.pit_capacity,
            pit_capacity_bytes=options.pit_mib << 20,
            lost_refuse=options.lost_faces == "nack",
            one_copy=options.similar == "wait",
        )
        self._clock: Callable[[], float] = time.monotonic
        self._output = Output()
        self.room = bytearray(READ_BYTES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ports = Ports(self, lambda: self._clock())
        self._dialer = Dialer(
            self,
            self._ports,
            self._spawn,
            changed=lambda kind, face: self._on_face(kind, face),
            settle=self._settle_now,
        )
        self.management = Management(
            self.core,
            wall_us=lambda: time.time_ns() // 1000,
            make_face=self._dialer.make_face,
            listening=self._ports.uris,
            authority=self._door.authorise,
            neighbours=options.remote_commands == "signed",
        )
        self._kind_of = kind_of
        self._metrics: MetricsListener | None = None
        self._timer = CoreTimer(self.core)
        self._sweeper: asyncio.TimerHandle | None = None
        self._flusher: asyncio.TimerHandle | None = None

    @property
    def check(self) -> CommandCheck | None:
        return self._door.check

    @check.setter
    def check(self, check: CommandCheck | None) -> None:
        self._door.check = check

    # ------------------------------------------------------------ addresses, also of binds to port 0

    @property
    def tcp_address(self) -> Address | None:
        return self._ports.address("tcp")

    @property
    def udp_address(self) -> Address | None:
        return self._ports.address("udp")

    @property
    def ws_address(self) -> Address | None:
        return self._ports.address("ws")

    @property
    def metrics_address(self) -> Address | None:
        return self._metrics.address if self._metrics is not None else None

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        self._clock = asyncio.get_running_loop().time
        try:
            self._open_disk(self.options)
            await self._ports.open(self.options)
            await self._listen_for_metrics(self.options.metrics_bind)
        except BaseException:
            await self.close()
            raise
        self._sweep()
        self._flush_disk()

    async def close(self) -> None:
        """Stop listening, close all faces, remove the Unix socket, write the Content Store to disk if it has one."""
        self._timer.cancel()
        for timer in (self._sweeper, self._flusher):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._door.close()
        self.core.lost_refuse = False
        for face in list(self.core.faces.values()):
            face.close()
        await self._ports.close()
        if self._metrics is not None:
            await self._metrics.close()
        if self.disk is not None:
            self.core.cs.spill()
            self.disk.close()
            self.disk = self.core.cs.second = None

    async def _listen_for_metrics(self, bind: Sequence[str]) -> None:
        """Without anybody to ask nothing is imported and hits are not told apart."""
        if self._metrics is None and bind:
            from ndn_infer.metrics.listener import MetricsListener

            self._metrics = MetricsListener(self._exposition)
        if self._metrics is not None:
            await self._metrics.change(bind)

    def _exposition(self) -> Exposition:
        from ndn_infer.metrics.exposition import Exposition

        hits = HitsByKind(self._kind_of) if self._kind_of is not None else None
        self.core.cs.on_hit = hits.hit if hits is not None else None
        meters = Meters()
        meters.read_from("forwarder", ForwarderSamples(self.core, lambda: self.disk, hits))
        return Exposition([meters])

    async def reload(self, options: ForwarderConfig) -> list[str]:
        """Apply other options to the running forwarder; faces, routes and what is cached stay. Returns the names of
        the options that changed. Raises ConfigError or AddressTaken; what can be applied before has been."""
        old = self.options
        changed = [item.name for item in fields(options) if getattr(old, item.name) != getattr(options, item.name)]
        await self._ports.change(old, options)
        self.options = options
        await self._listen_for_metrics(options.metrics_bind)
        cs = self.core.cs
        cs.capacity_packets, cs.capacity_bytes = options.cs_capacity_packets, options.cs_capacity_mib << 20
        if (options.cs_protected, options.cs_counted) != (old.cs_protected, old.cs_counted):
            cs.reclassify(_classes(options))
        if (options.cs_disk_path, options.cs_disk_mib) != (old.cs_disk_path, old.cs_disk_mib):
            if self.disk is not None:
                self.disk.close()
                self.disk = cs.second = None
            self._open_disk(options)
        cs.evict()
        self.core.producer_regions = _names(options.producer_regions)
        self.core.bound_pit(options.pit_capacity, options.pit_mib << 20)
        self.core.lost_refuse = options.lost_faces == "nack"
        self.core.one_copy = options.similar == "wait"
        self.management.serve_neighbours(options.remote_commands == "signed")
        return changed

    def _open_disk(self, options: ForwarderConfig) -> None:
        if options.cs_disk_path:
            path = Path(options.cs_disk_path).expanduser()
            self.disk = DiskTier(path, options.cs_disk_mib << 20, wall=time.time, clock=lambda: self._clock())
            self.core.cs.second = self.disk

    # ------------------------------------------------------------ Core (transports.py)

    def new_face_id(self) -> int:
        return self.core.new_face_id()

    def open_face(self, face: Face) -> None:
        self.core.add_face(face)
        log.info("face %d up: %s", face.id, face.uri)
        self._settle_soon()

    def close_face(self, face: Face) -> None:
        self.core.remove_face(face.id, self._clock())
        log.info("face %d down: %s", face.id, face.uri)
        self._settle_soon()

    def receive(self, face: Face, packets: Sequence[bytes], source: object = None) -> None:
        now = self._clock()
        self._output.hold()
        try:
            self.core.receive_all(face, packets, now)
        finally:
            self._output.release(source)
        self.management.run(now)
        self._timer.arm()

    def flush_soon(self, stream: StreamFace) -> None:
        self._output.add(stream)

    def redial(self, stream: StreamFace) -> None:
        self._dialer.redial(stream)

    def _on_face(self, kind: int, face: Face) -> None:
        self.core.face_changed(kind, face)
        self._settle_soon()

    def _settle_soon(self) -> None:
        """What a face's coming or going means for management, not in the middle of something else."""
        asyncio.get_running_loop().call_soon(self._settle_now)

    def _settle_now(self) -> None:
        self.management.run(self._clock())
        self._timer.arm()

    # ------------------------------------------------------------ time

    def _sweep(self) -> None:
        for udp in self._ports.udp:
            udp.sweep()
        interval = min(SWEEP_INTERVAL_S, self.options.udp_idle_timeout_s)
        self._sweeper = asyncio.get_running_loop().call_later(interval, self._sweep)

    def _flush_disk(self) -> None:
        if self.disk is not None:
            self.disk.flush()
        self._flusher = asyncio.get_running_loop().call_later(DISK_FLUSH_INTERVAL_S, self._flush_disk)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _classes(options: ForwarderConfig) -> CsClasses:
    return CsClasses(_names(options.cs_protected), _names(options.cs_counted))


def _names(uris: Sequence[str]) -> tuple[Name, ...]:
    return tuple(map(forms.name, uris))
