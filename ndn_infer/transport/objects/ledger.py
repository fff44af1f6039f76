"""The ledger of one question: which names were used, where each came from, who signed it.

Owns: what the summary after an answer is made of, and the words for sources. Must not know: how packets were had.

Counting is all that it does by itself. A `witness` is told of each use, and of what was refused, with times and bytes:
who shows how an answer came about sets one, and nothing is made for those who do not look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from ndn_infer import clock, ndn
from ndn_infer.namespace import classify
from ndn_infer.ndn.name import Name
from ndn_infer.security.validator import Validated
from ndn_infer.transport.link.endpoint import Arrival

PRODUCER: Final = "producer"
CONTENT_STORE: Final = "Content Store"
NETWORK_CACHE: Final = "stored upstream"
RECOMPUTED: Final = "recomputed"

_SEGMENT: Final = bytes((ndn.SEGMENT,))
_STARTED_US: Final = clock.wall_us()


def source_of(arrival: Arrival, versioned: Name | None = None, since_us: int | None = None) -> str:
    """Where a packet came from, as far as a consumer can know.

    This machine's Content Store tells on itself (IncomingFaceId 254). A version older than `since_us` (microseconds
    of the Unix epoch; the start of this process when None) was made before anybody here asked: it was stored
    somewhere. What is left was made for us.
    """
    if arrival.from_content_store:
        return CONTENT_STORE
    if versioned is not None:
        made = _version_of(versioned)
        if made is not None and made < (since_us or _STARTED_US):
            return NETWORK_CACHE
    return PRODUCER


@lru_cache(maxsize=64)
def _version_of(name: Name) -> int | None:
    for component in reversed(ndn.components(name)):
        if ndn.component_type(component) == ndn.VERSION:
            return ndn.component_number(component, ndn.VERSION)
    return None


class Use(NamedTuple):
    """One kind of name, how often it was used from one source, an example, and the keys that signed."""

    kind: str
    source: str
    uses: int
    example: str
    signers: tuple[str, ...]


class Came(NamedTuple):
    """How something came: the packet's bytes (b"" where there is none at hand), when it was asked for first (0: not
    known), and of an object in segments their number and bytes in all."""

    wire: bytes = b""
    began: float = 0.0
    packets: int = 1
    size: int = 0


_HOW: Final = Came()


class Seen(NamedTuple):
    """What a witness is told: `at` and `how.began` are clock.monotonic. With a `refusal` nothing of the rest was
    believed; `uses` where one word stands for several."""

    kind: str
    uri: str
    source: str
    signed_by: Validated | None
    at: float
    how: Came = _HOW
    uses: int = 1
    refusal: str = ""


@dataclass(slots=True)
class Ledger:
    """Counts uses of names below `net`. Only verified packets are entered, so `signers` are verified keys."""

    net: Name
    since_us: int = field(default_factory=clock.wall_us)
    witness: Callable[[Seen], None] | None = None
    _version: tuple[Name, str, str] = (b"", "", "")
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _examples: dict[tuple[str, str], str] = field(default_factory=dict)
    _signers: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def used(self, name: Name, source: str, signed_by: Validated | None, how: Came = _HOW) -> None:
        """Enter one use of a name."""
        if self.witness is None and (kind := self._kind_again(name)) and (kind, source) in self._examples:
            self._enter(kind, "", source, signed_by)
            return
        kind, uri = self._read(name)
        self._enter(kind, uri, source, signed_by)
        if self.witness is not None:
            self.witness(Seen(kind, uri, source, signed_by, clock.monotonic(), how))

    def collected(self, name: Name, source: str, signed_by: Validated, how: Came) -> None:
        """The segments of an object whose use was entered are there: no other use, and news for the witness only."""
        if self.witness is not None:
            self.witness(Seen(*self._read(name), source, signed_by, clock.monotonic(), how))

    def refused(self, name: Name, error: Exception, how: Came = _HOW) -> None:
        """What came for this name could not be verified: news for the witness only."""
        if self.witness is not None:
            self.witness(Seen(*self._read(name), "", None, clock.monotonic(), how, refusal=str(error)))

    def _read(self, name: Name) -> tuple[str, str]:
        """The title of a name's kind, and its URI. Segments of one version differ in their last component: what is
        before it is read once, since a stream has a name a token."""
        if kind := self._kind_again(name):
            above, _, uri = self._version
            return kind, f"{uri}/{ndn.component_to_uri(name[len(above) :])}"
        explained = classify(self.net, name)
        kind = explained.kind.title if explained.kind is not None else "other"
        uri = ndn.to_uri(name)
        last = ndn.components(name)[-1:]
        if last and last[0][:1] == _SEGMENT:
            self._version = (name[: -len(last[0])], kind, uri.rpartition("/")[0])
        return kind, uri

    def _kind_again(self, name: Name) -> str:
        """The title of its kind, where this is another segment of the version that was read last; else ""."""
        above, kind, _ = self._version
        at = len(above)
        again = (
            above and name[at : at + 1] == _SEGMENT and name.startswith(above) and name[at + 1] == len(name) - at - 2
        )
        return kind if again else ""

    def add(self, kind: str, uri: str, source: str, signed_by: Validated | None, *, count: int = 1) -> None:
        """Enter `count` uses by the word of somebody else; `uri` is one of them, or empty."""
        self._enter(kind, uri, source, signed_by, count)
        if self.witness is not None:
            self.witness(Seen(kind, uri, source, signed_by, clock.monotonic(), uses=count))

    def _enter(self, kind: str, uri: str, source: str, signed_by: Validated | None, count: int = 1) -> None:
        key = (kind, source)
        self._counts[key] += count
        self._examples.setdefault(key, uri)
        signers = self._signers.setdefault(key, {})
        if signed_by is not None:
            signers[_key_uri(signed_by.key_name)] = None

    def include(self, other: Ledger) -> None:
        """Enter everything that the other one holds."""
        self._counts.update(other._counts)
        for key, uri in other._examples.items():
            self._examples.setdefault(key, uri)
            self._signers.setdefault(key, {}).update(other._signers[key])

    def uses(self) -> Iterator[Use]:
        for (kind, source), count in self._counts.items():
            yield Use(kind, source, count, self._examples[kind, source], tuple(self._signers[kind, source]))

    def signers(self) -> tuple[str, ...]:
        """All keys whose signatures were verified."""
        return tuple(dict.fromkeys(key for keys in self._signers.values() for key in keys))


@lru_cache(maxsize=1024)
def _key_uri(key_name: Name) -> str:
    """Of a key whose signature was verified: few of them sign all that is used."""
    return ndn.to_uri(key_name)
