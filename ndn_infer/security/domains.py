"""Domains: who shares cached state, and who can tell what is cached.

Owns: the public domain, the keys of a tenant domain's epochs, chain values under them, and sealing: encryption of
objects, and of requests, answers and stream events of private calls, with the name they belong to as associated data.
Must not know: how a key reaches its members (domain_keys.py), files (domain_store.py), what any content means. Pure.

Keys. An epoch has one secret of 32 random bytes. HKDF-SHA256 (RFC 5869) makes a key for each purpose from it: chain,
digest, seal; id and epoch are its salt. No key serves two purposes, and no epoch's key tells another's.

Sealing is deterministic authenticated encryption, built like SIV (RFC 5297) and the key derivation of RFC 8452:

    bound  = scope, label, name                    what the content belongs to; the associated data
    siv    = HMAC-SHA256(digest key, bound, SHA-256(padded content))
    key    = HKDF-Expand(seal key, siv)            used for one message only
    sealed = format, epoch, siv, AES-256-GCM(key, nonce 0, padded content, associated data: bound)

A nonce must never meet two plaintexts under one key. Here the nonce is constant and the key is what differs: it follows
from a 256-bit synthetic IV over scope, label, name and content, so two messages get one key only if they are the same
message, or if SHA-256 or HMAC-SHA256 has a collision, which no one comes near (after 2**64 messages the chance of one
is about 2**-128). A random 96-bit nonce under one key would allow 2**32 messages (NIST SP 800-38D, 8.3), and a nonce
cut from the digest would collide by chance after 2**48. The same message always makes the same bytes: two producers of
one block publish equal objects, with nothing to agree on. What that tells outsiders, that two contents under one name
are equal, its name tells them already. AES-GCM-SIV (RFC 8452) is in OpenSSL too and was measured at 0.5 GB/s in both
directions; this is bounded by SHA-256 when sealing (1.7 GB/s for KV blocks of 369 KB) and by AES-GCM when opening (13).

Opening does not compute the synthetic IV again: another one gives another key, and the tag of GCM fails. A member, who
has all keys, could seal other than this does, which gives it nothing that it cannot have anyhow.

Lengths are rounded up to a multiple of 256 bytes, so that token blocks and most stream events are of one size. Beyond
that sealing hides no length: see docs/domains.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ndn_infer import chain, ndn, records
from ndn_infer.errors import BadRecord, MissingKey, TrustError
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record, Request
from ndn_infer.records.bounds import AtMost

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
PAD_BYTES: Final = 256
MAX_EPOCH: Final = 999_999_999

_FORMAT: Final = b"\x01"
_SIV_BYTES: Final = 32
_HEADER_BYTES: Final = 1 + 4 + _SIV_BYTES
_TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)
_INFO: Final = b"ndn-infer domain v1 "

OVERHEAD_BYTES: Final = _HEADER_BYTES + _TAG_BYTES
"""What sealing adds, beside padding of 1 to PAD_BYTES bytes."""

MAX_SEALED: Final = Record.max_bytes + SALT_BYTES + PAD_BYTES + OVERHEAD_BYTES
"""Bytes of the largest request, sealed."""


@dataclass(frozen=True, slots=True)
class SealedRequest(Request):
    """The request of a private call, as it travels: the domain's label, and the request sealed."""

    max_bytes: ClassVar[int] = MAX_SEALED + 128
    domain: Annotated[str, AtMost(64)]
    sealed: Annotated[bytes, AtMost(MAX_SEALED)]


class SealBroken(TrustError):
    """Not sealed in this domain, under this name, for this use."""

    default_hint = "it was altered, or published under the wrong name; it was not used"


class Scope(Enum):
    """What sealed bytes are. One cannot stand for another, even under the same name."""

    OBJECT = b"object"
    REQUEST = b"request"
    ANSWER = b"answer"
    EVENT = b"event"


class Domain(Protocol):
    """Who shares blocks: how their chain values are made, and what their objects hold."""

    @property
    def label(self) -> str:
        """The <domain> component of names."""
        ...

    def chain_seed(self, block_tokens: int) -> bytes: ...

    def chain_values(self, ids: Sequence[int], block_tokens: int) -> list[bytes]: ...

    def chain_extend(self, parent: bytes, ids: Sequence[int]) -> bytes: ...

    def seal(self, base: Name, content: bytes) -> bytes:
        """The content of the object `base`, as it is published: encrypted as a whole, before it is cut."""
        ...

    def open(self, base: Name, content: bytes | memoryview) -> bytes:
        """Raises TrustError for what this domain did not seal under this name."""
        ...


class PublicDomain:
    """Everybody: chain values anybody can derive, contents anybody can read."""

    label: Final = "public"

    def chain_seed(self, block_tokens: int) -> bytes:
        return chain.seed(block_tokens)

    def chain_values(self, ids: Sequence[int], block_tokens: int) -> list[bytes]:
        return chain.chain(ids, block_tokens)

    def chain_extend(self, parent: bytes, ids: Sequence[int]) -> bytes:
        return chain.extend(parent, ids)

    def seal(self, base: Name, content: bytes) -> bytes:
        return content

    def open(self, base: Name, content: bytes | memoryview) -> bytes:
        return bytes(content)


PUBLIC: Final = PublicDomain()


class DomainEpoch:
    """One epoch of a tenant domain: a Domain whose label is `<id>.<epoch>`.

    The label is not the tenant's name, which would tell everybody on the way whose data this is, and it is not chosen
    by hand, since two owners could choose the same. It holds the id, a digest of the owner's identity and a random
    salt, under which the key records are published; and the epoch, so that a name says which key opens its object.
    """

    __slots__ = ("_chain", "_digest", "_seal", "domain", "epoch")

    def __init__(self, domain: str, epoch: int, secret: bytes) -> None:
        """`domain` is its id, `secret` has KEY_BYTES random bytes. Raises ValueError for another size or epoch."""
        if len(secret) != KEY_BYTES or not 1 <= epoch <= MAX_EPOCH:
            raise ValueError(f"a domain key has {KEY_BYTES} bytes, and epochs count from 1")
        self.domain = domain
        self.epoch = epoch
        salt = f"{domain}.{epoch}".encode()
        self._chain, self._digest, self._seal = (
            HKDF(hashes.SHA256(), KEY_BYTES, salt, _INFO + purpose).derive(secret)
            for purpose in (b"chain", b"digest", b"seal")
        )

    def __repr__(self) -> str:
        return f"DomainEpoch({self.label})"  # never the keys

    @property
    def label(self) -> str:
        return f"{self.domain}.{self.epoch}"

    # ------------------------------------------------------------ shared state

    def chain_seed(self, block_tokens: int) -> bytes:
        return chain.seed(block_tokens, self._chain)

    def chain_values(self, ids: Sequence[int], block_tokens: int) -> list[bytes]:
        return chain.chain(ids, block_tokens, self._chain)

    def chain_extend(self, parent: bytes, ids: Sequence[int]) -> bytes:
        return chain.extend(parent, ids, self._chain)

    def seal(self, base: Name, content: bytes) -> bytes:
        return self._close(Scope.OBJECT, base, content)

    def open(self, base: Name, content: bytes | memoryview) -> bytes:
        """Raises SealBroken."""
        return self._open(Scope.OBJECT, base, content)

    # ------------------------------------------------------------ private calls

    def seal_request(self, function: Name, caller: Name, request: bytes, salt: bytes) -> bytes:
        """The canonical request of a private call: the digest of these bytes is its name.

        `function` is namespace.function_prefix, `caller` the identity that signs the Interest: nobody else can use the
        bytes to ask, nor at another function. `salt` has SALT_BYTES random ones: equal requests get unequal names.
        """
        if len(salt) != SALT_BYTES:
            raise ValueError(f"the salt of a request has {SALT_BYTES} bytes")
        sealed = self._close(Scope.REQUEST, function, salt + request, caller)
        return records.encode(SealedRequest(self.label, sealed))

    def open_request(self, function: Name, caller: Name, sealed: SealedRequest) -> bytes:
        """The request in it, by a caller whose signature was verified. Raises SealBroken."""
        if sealed.domain != self.label:
            raise SealBroken(f"a request in domain {sealed.domain[:64]!r}, not {self.label}")
        content = self._open(Scope.REQUEST, function, sealed.sealed, caller)
        if len(content) < SALT_BYTES:
            raise SealBroken("a sealed request without its salt")
        return content[SALT_BYTES:]

    def seal_answer(self, call: Name, answer: bytes) -> bytes:
        """Content of the answer to the Interest of this full name, parameters digest included."""
        return self._close(Scope.ANSWER, call, answer)

    def open_answer(self, call: Name, content: bytes | memoryview) -> bytes:
        """Raises SealBroken."""
        return self._open(Scope.ANSWER, call, content)

    def seal_event(self, segment: Name, event: bytes) -> bytes:
        """Content of one segment of a live stream, by the segment's full name."""
        return self._close(Scope.EVENT, segment, event)

    def open_event(self, segment: Name, content: bytes | memoryview) -> bytes:
        """Raises SealBroken."""
        return self._open(Scope.EVENT, segment, content)

    # ------------------------------------------------------------ the construction

    def _close(self, scope: Scope, name: Name, content: bytes, caller: Name = b"") -> bytes:
        padded = b"".join((content, b"\x80", bytes(-(len(content) + 1) % PAD_BYTES)))
        bound = self._bound(scope, name, caller)
        siv = hmac.digest(self._digest, bound + hashlib.sha256(padded).digest(), "sha256")
        header = _FORMAT + self.epoch.to_bytes(4, "big") + siv
        return header + self._cipher(siv).encrypt(_NONCE, padded, bound)

    def _open(self, scope: Scope, name: Name, content: bytes | memoryview, caller: Name = b"") -> bytes:
        view = memoryview(content)
        body = len(view) - OVERHEAD_BYTES
        if body < PAD_BYTES or body % PAD_BYTES or view[0] != _FORMAT[0]:
            raise SealBroken(f"the content of {ndn.to_uri(name)} is not sealed")
        if int.from_bytes(view[1:5], "big") != self.epoch:
            raise SealBroken(f"the content of {ndn.to_uri(name)} was sealed in another epoch than {self.epoch}")
        cipher = self._cipher(bytes(view[5:_HEADER_BYTES]))
        try:
            padded = cipher.decrypt(_NONCE, view[_HEADER_BYTES:], self._bound(scope, name, caller))
        except InvalidTag:
            raise SealBroken(f"{ndn.to_uri(name)} was not sealed under this name in {self.label}") from None
        end = padded.rfind(b"\x80", len(padded) - PAD_BYTES)
        if end < 0 or padded.count(b"\0", end + 1) != len(padded) - end - 1:
            raise SealBroken(f"the sealed content of {ndn.to_uri(name)} is not padded")
        return padded[:end]

    def _cipher(self, siv: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._seal, siv + b"\x01", "sha256"))  # HKDF-Expand of one block

    def _bound(self, scope: Scope, name: Name, caller: Name) -> bytes:
        """Every part with its length before it, so that no two lists of parts look alike."""
        parts = (scope.value, self.label.encode(), name, caller)
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def most_sealed(most: int) -> int:
    """The most bytes of an object in any domain, in the public one too, whose content has at most `most`."""
    return most + OVERHEAD_BYTES + PAD_BYTES


class TenantDomain:
    """All epochs of a domain whose keys we have. New content belongs to the newest; older epochs stay readable. The
    keys of an epoch are derived when it is first used."""

    def __init__(self, domain: str, secrets: Mapping[int, bytes]) -> None:
        """`secrets` by epoch, one at least."""
        self.domain = domain
        self._secrets = {epoch: secrets[epoch] for epoch in sorted(secrets)}
        self._epochs: dict[int, DomainEpoch] = {}
        self.newest = self.at(max(secrets))

    @property
    def epochs(self) -> tuple[DomainEpoch, ...]:
        """Oldest first."""
        return tuple(map(self.at, self._secrets))

    def at(self, epoch: int) -> DomainEpoch:
        """Raises MissingKey for an epoch before we were a member, or after."""
        found = self._epochs.get(epoch)
        if found is None and epoch not in self._secrets:
            known = list(map(str, self._secrets))
            raise MissingKey(
                f"no key of epoch {epoch} of domain {self.domain}; here are {', '.join(known[-20:])}",
                hint="ask the domain's owner for its newest key record, and 'ndn-infer domain join' it",
            )
        if found is None:
            found = self._epochs[epoch] = DomainEpoch(self.domain, epoch, self._secrets[epoch])
        return found


def is_sealed(content: bytes | memoryview) -> bool:
    """Whether bytes look sealed. No record begins so: they are maps, which begin with 0x80 or more (records.py)."""
    return bytes(content[:1]) == _FORMAT


def find_epoch(domains: Iterable[TenantDomain], label: str) -> DomainEpoch:
    """The epoch of this label. Raises MissingKey when it is of none of these domains."""
    domain, _, epoch = label.rpartition(".")
    for item in domains:
        if item.domain == domain and epoch.isascii() and epoch.isdigit() and len(epoch) <= 9:
            return item.at(int(epoch))
    raise MissingKey(f"no key of domain {label[:64]!r}", hint="members get one with 'ndn-infer domain join'")


def is_sealed_request(request: bytes) -> bool:
    """Whether these bytes can be read as a SealedRequest, however they are encoded."""
    if b"sealed" not in request or b"domain" not in request:
        return False
    try:
        records.decode(SealedRequest, request)
    except BadRecord:
        return False
    return True


def parse_request(request: bytes) -> SealedRequest:
    """The canonical request of a private call. Raises BadRecord."""
    sealed = records.decode(SealedRequest, request)
    if len(sealed.domain) > 64:
        raise BadRecord("the label of a domain has 64 characters at most")
    return sealed
