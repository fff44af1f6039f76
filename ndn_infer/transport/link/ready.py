"""Answers that are ready: Interests for segments that stand in a store, many of which come together.

Owns: recognising an Interest that is like the one before (the same length and the same bytes up to the name), so that
its name is found without looking at headers. Must not know: links, handlers, what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from ndn_infer.ndn.name import Name
from ndn_infer.wire.peek import interest_name


class Ready:
    """`find(name)` gives the Data packet of exactly this name, or None."""

    def __init__(self, find: Callable[[Name], bytes | None]) -> None:
        self._find = find
        self._head = b""
        self._size = self._end = 0

    def first(self, packet: bytes, interest: bytes) -> bytes | None:
        """The answer to one Interest, and the link packet in which it came, of whose form the next ones may be."""
        name = interest_name(interest)
        answer = self._find(name) if name else None
        if answer is not None:
            start = len(packet) - len(interest) + (4 if interest[1] < 0xFD else 6)
            self._head, self._size, self._end = packet[:start], len(packet), start + len(name)
        return answer

    def answers(self, packets: Sequence[bytes], at: int) -> list[bytes]:
        """The answers to those from packets[at] on, up to the first that is of another form or has none."""
        head, size, start, end, find = self._head, self._size, len(self._head), self._end, self._find
        found: list[bytes] = []
        for packet in islice(packets, at, None):
            if len(packet) != size or not packet.startswith(head):
                break
            answer = find(packet[start:end])
            if answer is None:
                break
            found.append(answer)
        return found
