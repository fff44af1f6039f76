"""What waits to be written to a stream: whole packets, of which the first may be sent in part.

Owns: order, size, what to hand to the system next. Pure. Must not know: sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

BUFFERS_AT_A_TIME = 256
"""Packets in one system call (the system takes 1,024)."""


class SendQueue:
    """`size` is in bytes. Packets leave in order; `sent` says how many bytes of those from `head` are gone."""

    __slots__ = ("_packets", "_sent_of_first", "size")

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()
        self._sent_of_first = 0
        self.size = 0

    def append(self, packet: bytes) -> None:
        self._packets.append(packet)
        self.size += len(packet)

    def extend(self, packets: Sequence[bytes], size: int) -> None:
        """`append` for all of them, which have `size` bytes together."""
        self._packets.extend(packets)
        self.size += size

    def head(self) -> list[bytes | memoryview]:
        """The next buffers to write, at most BUFFERS_AT_A_TIME."""
        buffers: list[bytes | memoryview] = list(islice(self._packets, BUFFERS_AT_A_TIME))
        if self._sent_of_first:
            buffers[0] = memoryview(buffers[0])[self._sent_of_first :]
        return buffers

    def sent(self, count: int) -> None:
        """`count` bytes from the head have been written."""
        self.size -= count
        if not self.size:
            self.clear()
            return
        count += self._sent_of_first
        packets = self._packets
        while packets and count >= len(packets[0]):
            count -= len(packets.popleft())
        self._sent_of_first = count

    def clear(self) -> None:
        self._packets.clear()
        self.size = self._sent_of_first = 0
