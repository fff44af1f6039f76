"""The sweep of `bench fetch`: our fetch and ndnget over a link with loss and delay, in user space.

    client - our forwarder A (no Content Store) - UDP through testbed.delay_link - our forwarder B - our producer

B has the object in its Content Store; one datagram carries one packet, so that the link's loss is the packets' loss.
Owns: that little network, made anew for every download: the link then loses the same frames for everybody. Must not
know: how figures are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.node.keys import ensure_keys
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import Content, Sample, free_port, make_content
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.fetch_peers import NDNGET_SETTINGS, find, ndnget
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.testbed.delay_link import LOOPBACK
from ndn_infer.testbed.managed import ManagedNode

LOSSES_PERCENT: Final = (0.0, 1.0, 5.0)
ROUND_TRIPS_MS: Final = (0, 10, 50, 100)
LOSS_AT_MS: Final = 10
"""The round trip of the loss sweep; the sweep of round trips has no loss."""
LINK_MBIT: Final = 400.0
DATAGRAM_BYTES: Final = 9000
SWEEP_BYTES: Final = 10_000_000
QUICK_SWEEP_BYTES: Final = 4_000_000
LABEL: Final = "sweep"
TIMEOUT_S: Final = 60.0
NDNGET_TITLES: Final = ("cubic", "fixed64")

Point = tuple[float, int]
"""Loss in percent, round trip in milliseconds."""


def points() -> list[Point]:
    delays = [(0.0, round_trip) for round_trip in ROUND_TRIPS_MS]
    return delays + [(loss, LOSS_AT_MS) for loss in LOSSES_PERCENT if loss]


def title_of(point: Point) -> str:
    return f"loss{point[0]:g}_rtt{point[1]}ms"


class Sweep:
    """Forwarder B with the object in its Content Store, and downloads through new links to it."""

    def __init__(self, folder: Path, keys: Keys, far: Target, port: int, content: Content) -> None:
        self._folder = folder
        self._keys = keys
        self._far = far
        self._port = port
        self._content = content

    @classmethod
    @contextmanager
    def begin(cls, folder: Path, keys: Keys, options: argparse.Namespace) -> Iterator[Sweep]:
        content = make_content(folder / "sweep.bin", QUICK_SWEEP_BYTES if options.quick else SWEEP_BYTES)
        port = free_port()
        with (
            begin_forwarder(folder / "far.sock", port, cs_packets=100_000) as far,
            keys.publisher(far, {LABEL: content}),
        ):
            keys.fetch(far.path, LABEL, content)  # now B has it
            yield cls(folder, keys, far, port, content)

    def ours(self, point: Point, seed: int) -> Sample:
        with self._near(point, seed) as near:
            return self._keys.fetch(near.path, LABEL, self._content)

    def ndnget(self, point: Point, setting: str, seed: int) -> Sample:
        with self._near(point, seed) as near:
            return ndnget(near, self._keys.base(LABEL), NDNGET_SETTINGS[setting], timeout_s=TIMEOUT_S)

    @contextmanager
    def _near(self, point: Point, seed: int) -> Iterator[Target]:
        """Forwarder A behind a new link."""
        loss, round_trip_ms = point
        link = EmulatedLink(LINK_MBIT, round_trip_ms, loss, seed)
        with behind_link(self._folder / "near.sock", self._keys, self._port, link) as near:
            yield near


@dataclass(frozen=True, slots=True)
class EmulatedLink:
    """What testbed.delay_link does to datagrams; `loss` from 0 to 1, drawn from `seed`."""

    mbit: float
    round_trip_ms: int
    loss: float = 0.0
    seed: int = 1


@contextmanager
def behind_link(path: Path, keys: Keys, port: int, link: EmulatedLink) -> Iterator[Target]:
    """A forwarder without a Content Store, and a new link from it to the one at this UDP port."""
    command = [
        sys.executable, "-m", "ndn_infer.testbed.delay_link", f"--udp={port}", f"--loss={link.loss}",
        f"--delay-us={link.round_trip_ms * 500}", f"--mbit={link.mbit}", f"--seed={link.seed}",
    ]  # fmt: skip
    with background(command) as process, begin_forwarder(path, free_port(), cs_packets=0) as near:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if words[:2] != ["READY", "link"]:
            raise CannotMeasure("the emulated link did not start")
        asyncio.run(_connect(near, keys, f"udp4://{LOOPBACK}:{words[2]}"))
        yield near


async def _connect(near: Target, keys: Keys, uri: str) -> None:
    """A face to the link and the way to everything of our network over it."""
    config = configuration.load(environment={}, flags=keys.settings)
    node = await ManagedNode.open(
        "near", config, ensure_keys(config, ()), socket=Path(near.path), neighbours={uri: "far"}
    )
    try:
        await node.link()
        await node.set_routes({ndn.to_uri(keys.net): {"far": 1}})
    finally:
        await node.close()


@contextmanager
def begin_forwarder(path: Path, udp_port: int, *, cs_packets: int) -> Iterator[Target]:
    settings = {
        "cs_capacity_packets": cs_packets, "cs_capacity_mib": 1024, "udp_mtu_bytes": DATAGRAM_BYTES,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "ndn_infer", "forwarder", "--unix", str(path), "--udp", f"{LOOPBACK}:{udp_port}",
    ]  # fmt: skip
    for key, value in settings.items():
        command += ["--set", f"forwarder.{key}={value}"]
    with background(command) as process:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("READY"):
            raise CannotMeasure("our forwarder did not start")
        yield Target(f"ndn-infer ({path.stem})", str(path), str(path.parent), process.pid)


def cells(sweep: Sweep, *, peers: bool) -> dict[str, Callable[[int], Sample]]:
    """Measurements by title; each takes the turn's number, which seeds the link."""
    found: dict[str, Callable[[int], Sample]] = {}
    tools = NDNGET_TITLES if peers and find("ndnget") else ()
    for point in points():
        found[f"sweep_{title_of(point)}"] = partial(sweep.ours, point)
        for tool in tools:
            found[f"sweep_{title_of(point)}_ndnget_{tool}"] = partial(sweep.ndnget, point, tool)
    return found
