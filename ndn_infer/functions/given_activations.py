"""What a stage gave lately: activations that were in an answer, signed as objects when somebody asks for one by name.

Owns: their contents until then, within a bound. Must not know: how they are computed, what they mean.

Each token's activation is in the answer to whoever asked for it. By its name it is asked for only where somebody lost
what came before (docs/pipeline.md), so an object that nobody asks for is never cut, hashed and signed.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Final

from ndn_infer.functions.base import Host
from ndn_infer.ndn.name import Name
from ndn_infer.security.crypto import Signer

MOST_BYTES: Final = 256 << 20
ENTRY_BYTES: Final = 1024
"""What a name and a promise take beside a content."""


class GivenActivations:
    """Of one stage. Of those that are not signed the oldest go first where they take more than MOST_BYTES, and are
    nowhere then."""

    def __init__(self, host: Host, signer: Signer) -> None:
        self._host = host
        self._signer = signer
        self._given: OrderedDict[Name, bytes] = OrderedDict()
        self._bytes = 0

    def give(self, base: Name, content: bytes, *, inline: bool) -> None:
        """An activation that can be had by its name from now on. One that is not `inline` in an answer is asked for
        by name next, and is published at once; so is each one where the store outlives this process."""
        self._host.counters["activations_published"] += 1
        if not inline or self._host.config.producer.store_path:
            self._publish(base, content)
            return
        self._take(base)
        self._given[base] = content
        self._bytes += len(content) + ENTRY_BYTES
        self._host.server.promise_when_asked(base, partial(self._asked, base))
        while self._bytes > MOST_BYTES:
            oldest = next(iter(self._given))
            self._take(oldest)
            self._host.server.break_promise(oldest, self._signer)

    def size(self, base: Name) -> int:
        """Bytes of an activation that is here, signed or not; 0 for one that is not."""
        given = self._given.get(base)
        if given is not None:
            return len(given)
        manifest = self._host.server.store.manifest(base)
        return 0 if manifest is None else manifest.size

    def content(self, base: Name) -> bytes | None:
        """Of an activation that is here."""
        given = self._given.get(base)
        if given is not None:
            return given
        packets = self._host.server.store.get(base)
        return None if packets is None else packets.content()

    def _take(self, base: Name) -> bytes:
        content = self._given.pop(base, None)
        if content is None:
            return b""
        self._bytes -= len(content) + ENTRY_BYTES
        return content

    def _asked(self, base: Name) -> None:
        self._publish(base, self._take(base))

    def _publish(self, base: Name, content: bytes) -> None:
        self._host.server.publish(base, content, self._signer)
