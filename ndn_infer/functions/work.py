"""What a producer works on: under which key running and remembered work is known, and who waits for it.

Owns: the key of work, the calls that were looked at, the answers that are remembered. Must not know: how Interests
arrive, what any function computes. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ndn_infer.namespace import Call
from ndn_infer.ndn.name import Name
from ndn_infer.records import CallAnswer, Envelope, Record
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.wire.shares import Seat

if TYPE_CHECKING:
    import asyncio

    from ndn_infer.functions.lifetime import Lifetime
    from ndn_infer.telemetry.spans import Span
    from ndn_infer.transport.link.endpoint import ReceivedInterest

MAX_REMEMBERED: Final = 4096
MAX_REMEMBERED_BYTES: Final = 8 << 20
MAX_FAILURES: Final = 256
FAILURE_S: Final = 10.0
MAX_WAITING: Final = 256
"""Interests that wait for one piece of work; they are acknowledged soon, so that only a flood is more."""


@dataclass(frozen=True, slots=True)
class WorkKey:
    """Work is found by nobody who does not give all of this: `call` has class, subject, function and the digest of the
    request; `domain` is the label, with the epoch, in which the request was sealed, or "public"; `caller` the verified
    identity that asked privately, b"" for shared work."""

    call: Call
    domain: str = PUBLIC.label
    caller: Name = b""


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """An Interest for a call, as far as it was looked at. `who` is what its share is counted under: the verified
    `caller` of a private call, else the neighbour it came from. `wire`: the bytes whose digest is in the name, once
    they are here."""

    request: ReceivedInterest
    call: Call
    envelope: Envelope
    who: Hashable
    caller: Name = b""
    wire: bytes = b""
    record: Record | None = None
    """The request, where it was decoded to see whether it is one."""


@dataclass(slots=True)
class Work:
    """Work that goes on. Its answers are sealed in `domain`, whoever asks. `before` is how many calls were taken on
    before it, `promised` what it said that it is going to publish, `ended` why nobody waits for it any more; `wire` as
    in ReceivedCall."""

    key: WorkKey
    domain: Domain
    envelope: Envelope
    seat: Seat
    lifetime: Lifetime
    task: asyncio.Task[None] | None = None
    waiting: list[ReceivedInterest] = field(default_factory=list)
    acknowledged: CallAnswer | None = None
    began: float = 0.0
    units: float = 0.0
    before: int = 0
    estimate_s: float = 0.0
    span: Span | None = None
    record: Record | None = None
    """The request, as in ReceivedCall."""
    promised: list[Name] = field(default_factory=list)
    ended: str = ""
    wire: bytes = b""
    afterwards: list[Callable[[], object]] = field(default_factory=list)
    """What is done once the answer has left."""


class Failures:
    """How acknowledged work failed, for those who ask again because its result is not there: the newest, for a while.
    Pure: callers pass `now`."""

    def __init__(self) -> None:
        self._failed: OrderedDict[WorkKey, tuple[float, CallAnswer]] = OrderedDict()

    def put(self, key: WorkKey, answer: CallAnswer, now: float) -> None:
        self._failed[key] = now + FAILURE_S, answer
        self._failed.move_to_end(key)
        while len(self._failed) > MAX_FAILURES:
            self._failed.popitem(last=False)

    def get(self, key: WorkKey, now: float) -> CallAnswer | None:
        until, answer = self._failed.get(key, (now, None))
        if until <= now:
            self._failed.pop(key, None)
            return None
        return answer


class Answers:
    """Answers to finished work, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[WorkKey, CallAnswer] = OrderedDict()
        self._bytes = 0

    def get(self, key: WorkKey) -> CallAnswer | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: WorkKey, answer: CallAnswer) -> None:
        self._drop(self._answers.pop(key, None))
        self._answers[key] = answer
        self._bytes += len(answer.value)
        while len(self._answers) > MAX_REMEMBERED or self._bytes > MAX_REMEMBERED_BYTES:
            self._drop(self._answers.popitem(last=False)[1])

    def _drop(self, answer: CallAnswer | None) -> None:
        self._bytes -= len(answer.value) if answer is not None else 0

    def __len__(self) -> int:
        return len(self._answers)
