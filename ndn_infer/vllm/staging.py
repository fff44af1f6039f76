"""How many bytes of blocks wait between vLLM's thread and the network's.

Owns: this bound. Must not know: what they are.
"""

from __future__ import annotations

import threading


class StagingRoom:
    """At most `most` bytes at a time; used from both threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room; then it is taken. One that is larger than all the room has room alone."""
        with self._lock:
            if self._used and self._used + size > self._most:
                return False
            self._used += size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._used -= size

    @property
    def used(self) -> int:
        with self._lock:
            return self._used
