"""Pulling inputs: what a call names at its caller, fetched by the producer with a window and a deadline of their own.

Owns: how many inputs are pulled at once and for whom, how large they may be, how long a silent source is waited for.
Must not know: what inputs hold.

Whoever calls may name sources that are silent or slow. Each pull therefore has its own congestion window, so that it
slows nothing else this process fetches; the oldest pull of the asker that has most gives way when there are too many;
and an input's size is checked in its signed manifest before any of it is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, BadRecord, Busy, NdnInferError, NetworkError, Timeout, TrustError
from ndn_infer.namespace import Input
from ndn_infer.ndn.name import Name
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.wire.shares import Crowd, Place

MAX_PULLS: Final = 32
MAX_BYTES: Final = 16 << 20
"""Of all inputs on their way, unless configured."""

DEADLINE_S: Final = 10.0
SILENCE_S: Final = 3.0
"""A source that answers nothing for this long has nothing."""
SLOWEST_BYTES_S: Final = 1 << 20
"""A large input may take as long as it takes at this speed."""

MAX_SOURCES: Final = 4
WINDOW: Final = 64
LARGE: Final = 1 << 20
"""Digests of more bytes are computed in a thread."""


class Pulling(NamedTuple):
    """One pull: its fetcher, its place among others, its deadline."""

    fetcher: Fetcher
    place: Place
    deadline: asyncio.Timeout


class InputUnavailable(NetworkError):
    """No source of an input gave it: it may be there for another producer, or a moment later."""


class InputPuller:
    """Pulls inputs over the endpoint of `fetcher`, beside what that fetches."""

    def __init__(self, fetcher: Fetcher, net: Name, max_bytes: int = MAX_BYTES) -> None:
        """`max_bytes`: of all inputs that are on their way at one time."""
        self._fetcher = fetcher
        self._net = net
        self._crowd = Crowd(MAX_PULLS, max_bytes)
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._crowd)

    @asynccontextmanager
    async def window(self, who: Hashable) -> AsyncIterator[Pulling]:
        """A fetcher with a window of its own, for what `who` named. Raises Busy when it had to give way, Timeout after
        DEADLINE_S."""
        task = asyncio.current_task()
        assert task is not None
        place = self._crowd.enter(who, task.cancel)
        try:
            async with asyncio.timeout(DEADLINE_S) as deadline:
                yield Pulling(self._fetcher.apart(deadline_s=SILENCE_S, window_limit=WINDOW), place, deadline)
        except asyncio.CancelledError:
            if place.evicted and task.uncancel() == 0:
                raise Busy("too many inputs are on their way here", retry_after_s=SILENCE_S) from None
            raise
        except TimeoutError as error:
            raise Timeout("an input did not come in time") from error
        finally:
            self._crowd.leave(place)

    async def pull(
        self, digest: str, sources: Sequence[str], caller: str, who: Hashable, *, max_bytes: int
    ) -> bytes:  # fmt: skip
        """The Input of this SHA-256, from the first of its sources that has it. `caller` is a routable hint or "".

        Raises InputUnavailable when some source did not give it, BadRecord when what they have is none or it is too
        large to be pulled at all, Busy, Timeout.
        """
        reason, silent = "no source of it is named", False
        async with self.window(who) as pulling:
            for uri in sources[:MAX_SOURCES]:
                try:
                    base, hints = self._base(uri, digest), (ndn.from_uri(caller),) if caller else ()
                    found = await pulling.fetcher.discover(base, hints=hints)
                    size = found.manifest.size if found.manifest is not None else 0
                    if size > max_bytes:
                        raise BadRecord(f"a request of {size} bytes; this function takes {max_bytes}")
                    if size > self._max_bytes:
                        raise BadRecord(f"a request of {size} bytes; this node pulls {self._max_bytes} at one time")
                    if not self._crowd.weigh(pulling.place, size):
                        raise Busy("too many bytes of inputs are on their way here", retry_after_s=SILENCE_S)
                    content = (await self._with_time(pulling, size).collect(found, most=size, hints=hints)).content
                except (NetworkError, TrustError, BadPacket) as error:
                    reason, silent = str(error), silent or not isinstance(error, BadPacket)
                    continue
                if await _digest(content) == digest:
                    return content
                reason = f"{uri} holds something else"
        words = f"the request of this digest is not available from its sources: {reason}"
        raise InputUnavailable(words) if silent else BadRecord(words)

    def _with_time(self, pulling: Pulling, size: int) -> Fetcher:
        """The fetcher for an input of this size, which has time according to that."""
        allowed_s = size / SLOWEST_BYTES_S
        if allowed_s <= SILENCE_S:
            return pulling.fetcher
        due = pulling.deadline.when()
        assert due is not None
        pulling.deadline.reschedule(due + allowed_s)
        return self._fetcher.apart(deadline_s=allowed_s, window_limit=WINDOW)

    def _base(self, uri: str, digest: str) -> Name:
        """The name in `uri`, which must be that of an Input of this digest: nobody makes us fetch anything else."""
        try:
            base = ndn.from_uri(uri)
            found = Input.parse(self._net, base)
        except NdnInferError as error:
            raise BadRecord(f"a source of a request is a name: {error}") from error
        if found is None or found.content != digest:
            raise BadRecord("a source of a request is an Input of its digest")
        return base


async def _digest(content: bytes) -> str:
    hashed = hashlib.sha256(content) if len(content) <= LARGE else await asyncio.to_thread(hashlib.sha256, content)
    return hashed.hexdigest()
