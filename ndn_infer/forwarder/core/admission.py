"""How many connections strangers may have.

Owns: the count by address, and who may come in. Pure. Must not know: sockets, what is sent.
"""

from __future__ import annotations

from collections import Counter


class FaceAdmission:
    """An address may have as many connections as there is room left (dynamic thresholds, as in the PIT): one that
    connects without end leaves half of them to others. Sockets of this process remain for the Unix socket in any case.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._of_host: Counter[str] = Counter()
        self._inside = 0

    def enter(self, host: str) -> bool:
        """Whether one more may come in; it then counts until it leaves."""
        if self._of_host.get(host, 0) >= self.capacity - self._inside:
            return False
        self._of_host[host] += 1
        self._inside += 1
        return True

    def leave(self, host: str) -> None:
        self._inside -= 1
        self._of_host[host] -= 1
        if not self._of_host[host]:
            del self._of_host[host]
