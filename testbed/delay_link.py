"""A link with delay, loss and bandwidth in user space, for kernels without netem: two TAP devices or two UDP sockets,
and a clock.

Owns: when a frame comes out at the other end (Shaper: pure, `now` passed in), the devices and the sockets. Must not
know: what frames say, how many links there are: one process a link.

    python -m ndn_infer.testbed.delay_link NETNS1 NETNS2 DEVICE --delay-us 10000 --mbit 100 --loss 0

makes DEVICE in both namespaces (--far-device: another name in the second), prints READY, and carries frames until
standard input closes or a signal comes.

    python -m ndn_infer.testbed.delay_link --udp 6363 --delay-us 10000 --loss 1 --seed 7

prints READY link PORT and carries datagrams between whoever first sends to PORT and port 6363, both of 127.0.0.1: needs
no privilege.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import heapq
import os
import random
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer.testbed.namespace_entry import enter_namespace
from ndn_infer.testbed.topology import LinkSpec

TUN_DEVICE: Final = Path("/dev/net/tun")
FRAME_BYTES: Final = 65_536
LOOPBACK: Final = "127.0.0.1"
SOCKET_BUFFER_BYTES: Final = 4 << 20
QUEUE_PACKETS: Final = 10_000
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x0002 | 0x1000


@dataclass(slots=True)
class Shaper:
    """One direction. `delay_s` one way, plus or minus up to `jitter_s`; `bytes_per_s` 0 is unlimited; `loss` is the
    part of frames that is lost.

    Each frame is first serialized at the bandwidth, then delayed; jitter lets a later frame leave first, as netem's
    does. A queue beyond `limit` frames drops, as a router's does. Equal seeds lose the same frames.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    limit: int = QUEUE_PACKETS
    seed: int = 0
    jitter_s: float = 0.0
    dropped: int = 0
    _free_at: float = 0.0
    _entered: int = 0
    _queue: list[tuple[float, int, bytes]] = field(default_factory=list)
    """A heap by the time of leaving; frames of one time leave in the order in which they entered."""
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def put(self, frame: bytes, now: float) -> None:
        """A frame enters the link."""
        if len(self._queue) >= self.limit or (self.loss and self._random.random() < self.loss):
            self.dropped += 1
            return
        if self.bytes_per_s:
            self._free_at = max(self._free_at, now) + len(frame) / self.bytes_per_s
            now = self._free_at
        jitter = self._random.uniform(-self.jitter_s, self.jitter_s) if self.jitter_s else 0.0
        self._entered += 1
        heapq.heappush(self._queue, (now + self.delay_s + jitter, self._entered, frame))

    def due(self, now: float) -> list[bytes]:
        """Frames that leave by now, in order."""
        frames = []
        while self._queue and self._queue[0][0] <= now:
            frames.append(heapq.heappop(self._queue)[2])
        return frames

    def next_wake(self) -> float | None:
        return self._queue[0][0] if self._queue else None


def shape_options(link: LinkSpec) -> list[str]:
    """What the command is told of a link of a topology."""
    return [
        f"--delay-us={link.delay_us}", f"--mbit={link.bandwidth_mbit}", f"--loss={link.loss_percent}",
        f"--jitter-us={link.jitter_us}", f"--queue={link.queue_packets or QUEUE_PACKETS}",
    ]  # fmt: skip


# ---------------------------------------------------------------- devices


def open_tap(namespace: str, device: str) -> int:
    """A non-blocking descriptor of a new TAP device inside a namespace; this process stays there. Raises OSError."""
    enter_namespace(namespace)
    tap = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TAP_WITHOUT_HEADER))
    return tap


def open_udp() -> socket.socket:
    """A non-blocking UDP socket on a free port of 127.0.0.1, with room for a burst."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    sock.bind((LOOPBACK, 0))
    sock.setblocking(False)
    return sock


def meet(near: socket.socket, stop: Sequence[int]) -> bool:
    """Connect `near` to whoever sends to it first; that datagram stays to be read. False when it is time to stop."""
    with selectors.DefaultSelector() as selector:
        for descriptor in (near.fileno(), *stop):
            selector.register(descriptor, selectors.EVENT_READ)
        if {key.fd for key, _ in selector.select()} & set(stop):
            return False
    near.connect(near.recvfrom(1, socket.MSG_PEEK)[1])
    return True


def carry(ends: tuple[int, int], shapers: tuple[Shaper, Shaper], stop: Sequence[int]) -> None:
    """Carry frames both ways between two descriptors (TAP devices, connected UDP sockets) until one of the descriptors
    in `stop` becomes readable."""
    with selectors.DefaultSelector() as selector:
        for descriptor in (*ends, *stop):
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            wakes = [wake for shaper in shapers if (wake := shaper.next_wake()) is not None]
            timeout = max(0.0, min(wakes) - time.monotonic()) if wakes else None
            ready = {key.fd for key, _ in selector.select(timeout)}
            if ready & set(stop):
                return
            for index, end in enumerate(ends):
                if end in ready:
                    _take(end, shapers[index])
            now = time.monotonic()
            for index, shaper in enumerate(shapers):
                for frame in shaper.due(now):
                    with contextlib.suppress(OSError):  # the far end is down or full: the frame is lost
                        os.write(ends[1 - index], frame)


def _take(end: int, shaper: Shaper) -> None:
    """All frames that wait at one end. A datagram that nobody took is told to its sender's next call: it is lost."""
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        while True:
            shaper.put(os.read(end, FRAME_BYTES), time.monotonic())


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    readable, writable = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writable, b"x") and None)
    stop = [readable, sys.stdin.fileno()] if options.exit_with_parent else [readable]
    delay_s, rate, loss = options.delay_us / 1e6, options.mbit * 125_000, options.loss / 100
    jitter_s = options.jitter_us / 1e6
    first, second = (Shaper(delay_s, rate, loss, options.queue, options.seed + side, jitter_s) for side in range(2))
    if options.udp:
        near, far = open_udp(), open_udp()
        far.connect((LOOPBACK, options.udp))
        print(f"READY link {near.getsockname()[1]}", flush=True)
        if meet(near, stop):
            carry((near.fileno(), far.fileno()), (first, second), stop)
        return 0
    try:
        far_device = options.far_device or options.device
        taps = (open_tap(options.first, options.device), open_tap(options.second, far_device))
    except OSError as error:
        print(f"ndn-infer: no link {options.first} - {options.second}: {error.strerror}", file=sys.stderr)
        return 1
    print("READY link", flush=True)
    carry(taps, (first, second), stop)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ndn_infer.testbed.delay_link")
    parser.add_argument("first", nargs="?", default="")
    parser.add_argument("second", nargs="?", default="")
    parser.add_argument("device", nargs="?", default="")
    parser.add_argument("--far-device", default="", metavar="DEVICE", help="its name in the second namespace")
    parser.add_argument("--udp", type=int, default=0, metavar="PORT", help="carry datagrams to this port instead")
    parser.add_argument("--delay-us", type=int, default=0)
    parser.add_argument("--jitter-us", type=int, default=0, help="variation of the delay")
    parser.add_argument("--mbit", type=float, default=0.0)
    parser.add_argument("--loss", type=float, default=0.0, help="percent")
    parser.add_argument("--queue", type=int, default=QUEUE_PACKETS, help="frames on the way at most, each direction")
    parser.add_argument("--seed", type=int, default=1, help="equal seeds lose the same frames")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input closes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
