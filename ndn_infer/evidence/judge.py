"""Judging packets that lie in a bundle: who signed them, whether they may, whether objects are whole. No network.

Owns: what is believed of a packet and of an object, and whose fault it is where one is not: its own bytes, a key, or
something that is not there. Must not know: what contents mean (explain.py), how a bundle came about.

Pure: bytes, an anchor and a time come in. The rules are those of security.validator, which has the last word on every
packet; certificates come from the bundle alone, the anchor never does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256

from ndn_infer import ndn, records
from ndn_infer.errors import BadPacket, BadRecord, CertificateExpired, MissingKey, TrustError
from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.namespace import CatalogRecord
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch
from ndn_infer.security.revocation import LIST_ID, LIST_KIND, RevocationList
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import MAX_DEPTH, Validator
from ndn_infer.wire.manifest import Manifest, decode_manifest, is_absent


class State(StrEnum):
    """What was found of a link. `UNPROVEN`: its own bytes may be right, but they rest on a key that is not."""

    VERIFIED = "verified"
    UNPROVEN = "unproven"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a packet, a key or an object, and `why` it is not verified. `key`: whose signature it has."""

    state: State
    why: str = ""
    key: Name = b""
    expired: bool = False
    """Whether it would have been good at another time."""

    @property
    def good(self) -> bool:
        return self.state is State.VERIFIED


@dataclass(frozen=True, slots=True)
class JudgedKey:
    """A key: its certificate, where it is here, and the key that vouches for it."""

    name: Name
    finding: Finding
    certificate: Certificate | None = None
    issuer: Name = b""


@dataclass(frozen=True, slots=True)
class JudgedObject:
    """An object: `content` where it is verified and whole (None too where only its manifest was asked for)."""

    base: Name
    finding: Finding
    manifest: Manifest | None = None
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """What a reader believes before looking: the anchor and rules of the network, the time at which certificates are to
    be valid (Unix epoch seconds), and the tenant domains whose keys are here (`domain` raises MissingKey)."""

    schema: TrustSchema
    anchor: Certificate
    now: float
    domain: Callable[[str], DomainEpoch] = field(default=lambda label: _no_domain(label))


class Judge:
    """Judges what is in one bundle. Nothing that it answers depends on the order of questions."""

    def __init__(self, bundle: EvidenceBundle, trust: Trust) -> None:
        """Raises TrustError for an anchor that is none of the schema's network."""
        self.bundle = bundle
        self.net = trust.schema.net
        self._trust = trust
        self.used: set[Name] = set()
        """Names of the packets that were looked at."""
        self._keys: dict[Name, JudgedKey] = {}
        self._validator = Validator(
            trust.schema, trust.anchor, self._certificate_wire, now=lambda: trust.now, monotonic=lambda: 0.0,
            sleep=_at_once,
        )  # fmt: skip

    async def heed_revocations(self) -> JudgedObject:
        """Look for the operator's deny list in the bundle and deny what it names, before anything else is judged."""
        base = CatalogRecord(LIST_KIND, LIST_ID).to_name(self.net)
        found = await self.object(base)
        if found.content is not None:
            try:
                self._validator.deny(records.decode(RevocationList, found.content))
            except BadRecord as error:
                return replace(found, finding=Finding(State.BROKEN, str(error), found.finding.key), content=None)
            self._keys.clear()
        return found

    @property
    def keys(self) -> tuple[JudgedKey, ...]:
        """The keys that were met so far."""
        return tuple(self._keys.values())

    # ------------------------------------------------------------ packets and keys

    async def packet(self, data: Data) -> Finding:
        """What is to be believed of a signed packet."""
        self.used.add(data.name)
        located = certs.split_locator(data.signature_info.key_locator or b"")
        if located is None:
            return Finding(State.BROKEN, "it names no key that could have signed it")
        key = await self.key(data.signature_info.key_locator or b"")
        if not key.finding.good:
            return Finding(State.UNPROVEN, f"its key {ndn.to_uri(key.name)} is not proven", key.name)
        try:
            await self._validator.validate(data)
        except TrustError as error:
            return Finding(State.BROKEN, _why(error, "Data", data.name), key.name)
        return Finding(State.VERIFIED, key=key.name)

    async def key(self, locator: Name, above: tuple[Name, ...] = ()) -> JudgedKey:
        """The key that a key locator names, and the chain of those that vouch for it. `above`: the keys for which it
        does, directly or not."""
        located = certs.split_locator(locator)
        if located is None:
            return JudgedKey(locator, Finding(State.BROKEN, "this is the name of no key"))
        known = self._keys.get(located.key_name)
        if known is None:
            known = await self._judge_key(located.key_name, locator, above)
            self._keys[located.key_name] = known
        return known

    async def _judge_key(self, key_name: Name, locator: Name, above: tuple[Name, ...]) -> JudgedKey:
        anchor = self._trust.anchor
        if key_name == anchor.key_name:
            good = anchor.valid_at(self._trust.now)
            end = f"it is valid from {certs.format_time(anchor.not_before)} to {certs.format_time(anchor.not_after)}"
            finding = Finding(State.VERIFIED) if good else Finding(State.BROKEN, end, expired=True)
            return JudgedKey(key_name, finding, anchor)
        try:
            wire = self._certificate_of(locator)
            certificate = certs.parse(wire) if wire else None
        except BadPacket as error:
            return JudgedKey(key_name, Finding(State.BROKEN, str(error)))
        if certificate is None:
            return JudgedKey(key_name, Finding(State.MISSING, "its certificate is not here"))
        if len(above) >= MAX_DEPTH:
            return JudgedKey(key_name, Finding(State.BROKEN, "too many certificates lead to the anchor"), certificate)
        above = (*above, key_name)
        vouching = certs.split_locator(certificate.issuer_locator)
        if vouching is not None and vouching.key_name in above:
            why = "who vouches for it rests on it: no chain leads to the anchor"
            return JudgedKey(key_name, Finding(State.BROKEN, why), certificate)
        issuer = await self.key(certificate.issuer_locator, above)
        return JudgedKey(key_name, await self._certificate(certificate, issuer), certificate, issuer.name)

    async def _certificate(self, certificate: Certificate, issuer: JudgedKey) -> Finding:
        if not issuer.finding.good:
            why = f"the key that vouches for it, {ndn.to_uri(issuer.name)}, is not proven"
            return Finding(State.UNPROVEN, why, issuer.name)
        try:
            await self._validator.validate(certificate.data)
        except TrustError as error:
            why = _why(error, "Data", certificate.name)
            return Finding(State.BROKEN, why, issuer.name, expired=isinstance(error, CertificateExpired))
        return Finding(State.VERIFIED, key=issuer.name)

    def _certificate_of(self, locator: Name) -> bytes:
        """The packet of this name; for the name of a key, its newest certificate. b"" where there is none."""
        wire = self.bundle.packets.get(locator)
        if wire is not None:
            self.used.add(locator)
            return wire
        located = certs.split_locator(locator)
        if located is None or located.is_certificate:
            return b""
        newest = max(self.bundle.below(locator), key=lambda data: _version(data.name), default=None)
        if newest is None:
            return b""
        self.used.add(newest.name)
        return newest.wire

    async def _certificate_wire(self, name: Name) -> bytes:
        wire = self._certificate_of(name)
        if not wire:
            raise TrustError("it is not here")
        return wire

    # ------------------------------------------------------------ objects

    async def object(self, base: Name, version: int | None = None, *, whole: bool = True) -> JudgedObject:
        """The object at `base` (this version, or the newest that is here): its manifest, and with `whole` its content,
        every segment compared with the manifest."""
        data = self.bundle.newest(base, version)
        if data is None:
            return JudgedObject(base, Finding(State.MISSING, "it is not here"))
        finding = await self.packet(data)
        if not finding.good:
            return JudgedObject(base, finding)
        if is_absent(data):
            return JudgedObject(base, Finding(State.MISSING, "its producer says that there is none", finding.key))
        try:
            manifest = decode_manifest(data)
            content = self._content(manifest) if whole else None
        except (BadPacket, TrustError) as error:
            return JudgedObject(base, Finding(State.BROKEN, str(error), finding.key))
        except Lacking as error:
            return JudgedObject(base, Finding(State.MISSING, str(error), finding.key), manifest)
        return JudgedObject(base, finding, manifest, content)

    def segments(self, manifest: Manifest) -> list[Data]:
        """The packets of an object's segments, each the one that its manifest lists. Raises DigestMismatch, BadPacket,
        Lacking."""
        if not manifest.digests:
            count = len(manifest.manifest_digests) // 32
            upper = [self._segment(manifest.manifest_name(number)) for number in range(count)]
            for number, data in enumerate(upper):
                manifest.check_manifest_segment(number, data.wire)
            manifest = manifest.with_digests(b"".join(data.content for data in upper))
        found = [self._segment(manifest.segment_name(number)) for number in range(manifest.segments)]
        for number, data in enumerate(found):
            manifest.check_segment(number, data.wire)
        return found

    def _content(self, manifest: Manifest) -> bytes:
        if manifest.inline is not None:
            return manifest.inline
        content = b"".join(data.content for data in self.segments(manifest))
        if len(content) != manifest.size:
            raise BadPacket(f"it has {len(content)} bytes, its manifest says {manifest.size}")
        return content

    def _segment(self, name: Name) -> Data:
        data = self.bundle.data(name)
        self.used.add(name)
        if data is None:
            raise Lacking(f"{ndn.to_uri(name)} is not here")
        return data

    # ------------------------------------------------------------ domains

    def domain(self, label: str) -> Domain:
        """Raises MissingKey for a tenant domain whose key is not here."""
        return PUBLIC if label == PUBLIC.label else self._trust.domain(label)


class Lacking(Exception):
    """A packet of an object is not in the bundle."""


async def _at_once(seconds: float) -> None:
    pass


def _no_domain(label: str) -> DomainEpoch:
    raise MissingKey(f"the key of domain {label} is not here")


def _why(error: TrustError, title: str, name: Name) -> str:
    """In words, without the name that stands beside them."""
    return str(error).removeprefix(f"{title} {ndn.to_uri(name)}: ").removeprefix(f"{ndn.to_uri(name)}: ")


def _version(name: Name) -> int:
    try:
        return ndn.last_version(name)
    except BadPacket:
        return 0


def digest_of(*contents: bytes) -> str:
    """SHA-256 over contents one after the other, in hex."""
    found = sha256()
    for content in contents:
        found.update(content)
    return found.hexdigest()


def signer_of(finding: Finding) -> str:
    """The identity whose key it is (URI), "" where nobody is known."""
    return ndn.to_uri(ndn.prefix(finding.key, -2)) if finding.key else ""
