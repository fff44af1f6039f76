"""The validator: from a packet to the proof that its signer may sign its name, or one error that says why not.

Owns: following the chain of certificates to the trust anchor, and the cache of keys that were found good. Must not
know: what the content means, where packets and certificates come from. Nothing of a packet may be used before
`validate` has returned.

Order of the checks, cheap and local ones first, so that a stranger cannot make us fetch or compute:
    1. the signature's type proves authorship, and its key locator names a certificate or key;
    2. the trust schema lets that key sign that name (only then is anything fetched);
    3. the certificate is fetched, is one, is valid now, has a usable key; steps 1 to 3 again for the certificate,
       until a key already known to be good, or the anchor, is reached;
    4. signatures are verified from the anchor down, so no stranger's key is ever used in a computation.

Why python-ndn's validators are not used: no validity periods, no Ed25519, no depth limit, one cache for the whole
process, and a certificate that arrives late costs the pending Interest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import (
    BadPacket,
    BadSignature,
    CertificateExpired,
    KeyNotAllowed,
    KeyRevoked,
    RevocationsUnknown,
    TrustError,
)
from ndn_infer.namespace import CatalogRecord
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data, Interest, SignatureInfo
from ndn_infer.security.certificate import Certificate, KeyLocator, above, format_time, parse, split_locator
from ndn_infer.security.certificate_fetch import CertificateFetcher, FetchCertificate
from ndn_infer.security.crypto import PUBLIC_KEY_SIGNATURES, PublicKey
from ndn_infer.security.rejections import Rejections
from ndn_infer.security.replay import ReplayWindow
from ndn_infer.security.revocation import LIST_ID, LIST_KIND, DenyList, RevocationList
from ndn_infer.security.trust import TrustSchema, Verdict
from ndn_infer.security.version_memory import VersionMemory

MAX_DEPTH: Final = 5
"""Certificates between a packet and the anchor, the anchor's not counted."""

MAX_CACHED: Final = 1024
CACHE_S: Final = 3600.0
"""A certificate is fetched again after this time, as its FreshnessPeriod says."""


@dataclass(frozen=True, slots=True)
class Validated:
    """Who signed, with which certificate, and the rule of the trust schema that allows it.

    `certificate_name` is the certificate that was followed; the key locator may name an older one of the same key.
    """

    key_name: Name
    certificate_name: Name
    rule: str

    @property
    def identity(self) -> Name:
        return above(self.key_name, 2)


@dataclass(frozen=True, slots=True)
class _Good:
    """A key whose chain was verified, and from when to when (epoch seconds) this holds."""

    certificate: Certificate
    key: PublicKey
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class _Signed:
    """What is judged: a Data packet, a certificate, or an Interest."""

    title: str
    name: Name
    info: SignatureInfo
    portion: bytes
    signature: bytes
    judge: Callable[[Name, Name], Verdict]

    @property
    def what(self) -> str:
        return f"{self.title} {ndn.to_uri(self.name)}"


class Validator:
    """Validates for one network, inside one event loop. State is its own; two validators share nothing.

    `anchor` must have come out of band (a key directory). `now` gives Unix epoch seconds, `monotonic` and `sleep` are
    the clock of retries. Raises KeyNotAllowed, BadSignature or BadPacket when `anchor` is none of the schema's network.
    """

    def __init__(
        self,
        schema: TrustSchema,
        anchor: Certificate,
        fetch_certificate: FetchCertificate,
        *,
        now: Callable[[], float] = clock.wall_s,
        monotonic: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        max_depth: int = MAX_DEPTH,
        max_cached: int = MAX_CACHED,
        cache_s: float = CACHE_S,
        seen: VersionMemory | None = None,
        replay: ReplayWindow | None = None,
        require_deny_list: bool = False,
    ) -> None:
        self._schema = schema
        self._denied = DenyList()
        self._require_deny_list = require_deny_list
        self._deny_list = CatalogRecord(LIST_KIND, LIST_ID).to_name(schema.net)
        self.seen = seen or VersionMemory()
        """Newest versions of records that must not be rolled back; kept by those who fetch."""
        self._now = now
        self._max_depth = max_depth
        self._max_cached = max_cached
        self._cache_s = cache_s
        self._anchor = _check_anchor(schema, anchor)
        self._good: OrderedDict[Name, _Good] = OrderedDict()
        self._fetcher = CertificateFetcher(fetch_certificate, monotonic=monotonic, sleep=sleep)
        self._replay = replay or ReplayWindow()
        self.rejected = Rejections()

    # ------------------------------------------------------------ the public side

    @property
    def net(self) -> Name:
        return self._schema.net

    def now(self) -> float:
        """Unix epoch seconds, by the clock that judges certificates."""
        return self._now()

    async def validate(self, data: Data) -> Validated:
        """Prove who signed `data`. Raises BadSignature, KeyNotAllowed, CertificateExpired, CertificateUnavailable.

        Data that is a certificate is judged as one: outside its own validity it proves nothing (CertificateExpired).
        """
        with self.rejected:
            return self._in_time(data, await self._validate(self._of_data("Data", data)))

    def _in_time(self, data: Data, validated: Validated) -> Validated:
        if _is_certificate(data.name):
            certificate = _parsed(data)
            if not certificate.valid_at(self._now()):
                raise _outside_validity(certificate, self._now())
            self._refuse_denied(certificate, f"certificate {ndn.to_uri(data.name)}")
        return validated

    def _refuse_denied(self, certificate: Certificate, what: str) -> None:
        reason = self._denied.reason(certificate)
        if reason is not None:
            raise KeyRevoked(f"{what}: the key {ndn.to_uri(certificate.key_name)} is revoked ({reason})")

    def try_validate(self, data: Data) -> Validated | None:
        """`validate` without waiting: None when a certificate would have to be fetched. Raises the same errors."""
        with self.rejected:
            signed = self._of_data("Data", data)
            self._need_deny_list(signed)
            located, verdict = self._locate(signed)
            good = self._known(signed, located)
            return self._in_time(data, _conclude(signed, good, verdict)) if good is not None else None

    def allows(self, name: Name, signed_by: Validated) -> bool:
        """Whether the schema lets a key that was followed before sign Data of this name too."""
        return self._schema.check(name, signed_by.key_name).allowed

    def permits(self, data: Data) -> bool:
        """Whether the schema lets the key that `data` names sign this name, whoever holds that key. Waits for nothing
        and believes nothing."""
        try:
            self._locate(self._of_data("Data", data))
        except TrustError:
            return False
        return True

    async def validate_interest(self, interest: Interest) -> Validated:
        """Prove who signed an Interest, and that it was not seen before. Raises what `validate` raises.

        BadSignature too for an Interest that is not signed, or a replay.
        """
        with self.rejected:
            signed = self._of_interest(interest)
            return self._not_again(signed, await self._validate(signed))

    def try_validate_interest(self, interest: Interest) -> Validated | None:
        """`validate_interest` without waiting: None when a certificate would have to be fetched. Raises the same."""
        with self.rejected:
            return self._try_interest(self._of_interest(interest))

    def _try_interest(self, signed: _Signed) -> Validated | None:
        self._need_deny_list(signed)
        claimed = split_locator(signed.info.key_locator or b"")
        anchor = self._anchor.certificate.key_name
        if claimed is not None and claimed.key_name not in self._good and claimed.key_name != anchor:
            return None  # before the schema is asked, which costs more than all else here
        located, verdict = self._locate(signed)
        good = self._known(signed, located)
        return self._not_again(signed, _conclude(signed, good, verdict)) if good is not None else None

    def _not_again(self, signed: _Signed, validated: Validated) -> Validated:
        site = ndn.prefix(validated.key_name, len(ndn.components(self.net)) + 1)
        self._replay.accept(validated.key_name, signed.info, self._now(), group=site)
        return validated

    def _of_interest(self, interest: Interest) -> _Signed:
        info = interest.signature_info
        if info is None:
            raise BadSignature(
                f"Interest {ndn.to_uri(interest.name)} is not signed", hint="sign it with a key of this network"
            )
        signed = _Signed(
            "Interest",
            interest.name,
            info,
            interest.signed_portion,
            interest.signature,
            self._schema.check_interest,
        )
        if not interest.parameters_digest_matches():
            raise BadSignature(f"{signed.what}: the name does not hold the digest of the parameters")
        return signed

    def deny(self, revoked: RevocationList) -> None:
        """Heed a deny list that was verified. What rests on keys that it names is refused from now on, whatever was
        believed before."""
        if self._denied.join(revoked):
            self._good.clear()

    @property
    def denied(self) -> DenyList:
        return self._denied

    def _need_deny_list(self, signed: _Signed) -> None:
        if self._require_deny_list and not signed.name.startswith(self._deny_list):
            if not self._denied.fresh(self._now()):
                raise RevocationsUnknown(f"{signed.what}: no deny list that is valid now is known")

    def certified(self, key_name: Name) -> Certificate | None:
        """The certificate by which a key was found good, the anchor's for its own; None for one that is not known."""
        good = self._anchor if key_name == self._anchor.certificate.key_name else self._good.get(key_name)
        return None if good is None else good.certificate

    def add_certificates(self, *certificates: Certificate) -> None:
        """Offer certificates at hand (our own, a bundle's): they are verified when needed, and spare the fetch."""
        for certificate in certificates:
            self._fetcher.offer(certificate)

    async def aclose(self) -> None:
        """Stop what is still being fetched."""
        await self._fetcher.aclose()

    # ------------------------------------------------------------ following the chain

    def _of_data(self, title: str, data: Data) -> _Signed:
        return _Signed(title, data.name, data.signature_info, data.signed_portion, data.signature, self._schema.check)

    async def _validate(self, signed: _Signed) -> Validated:
        self._need_deny_list(signed)
        located, verdict = self._locate(signed)
        good = self._known(signed, located)
        if good is None:
            good = await self._climb(signed, located)
        return _conclude(signed, good, verdict)

    async def _climb(self, signed: _Signed, located: KeyLocator) -> _Good:
        """Fetch certificates up to a key that is known to be good, verify them downwards, return the lowest key."""
        path: list[tuple[Name, _Signed, Certificate, PublicKey]] = []
        seen: set[Name] = set()
        subject = signed
        good: _Good | None = None
        while good is None:
            if located.key_name in seen:
                raise KeyNotAllowed(f"{signed.what}: its certificates certify each other in a circle")
            if len(path) >= self._max_depth:
                raise KeyNotAllowed(f"{signed.what}: more than {self._max_depth} certificates lead to the anchor")
            seen.add(located.key_name)
            asked = _locator_name(subject)
            certificate, key = await self._fetch_usable(asked, located, signed)
            _require(subject, certificate.name)
            subject = self._of_data("certificate", certificate.data)
            path.append((asked, subject, certificate, key))
            located, _ = self._locate(subject)
            good = self._known(subject, located)
        for asked, link, certificate, key in reversed(path):
            self._refuse_denied(certificate, signed.what)
            try:
                _verify(link, good)
            except BadSignature as error:
                self._fetcher.reject(asked, certificate, error)
                raise
            good = self._remember(certificate, key, good)
        return good

    async def _fetch_usable(self, name: Name, located: KeyLocator, signed: _Signed) -> tuple[Certificate, PublicKey]:
        """The certificate of this name, or where it has expired a newer one of the same key, with a key we can use."""
        try:
            certificate = await self._fetcher.fetch(name)
            now = self._now()
            if now > certificate.not_after and located.is_certificate:
                certificate = await self._renewed(certificate, located.key_name)
            return certificate, self._usable_key(name, certificate, now)
        except TrustError as error:
            raise type(error)(f"{signed.what}: {error}", hint=error.hint) from error

    async def _renewed(self, old: Certificate, key_name: Name) -> Certificate:
        try:
            renewed = await self._fetcher.fetch(key_name)
        except TrustError:
            return old
        return renewed if renewed.public_der == old.public_der else old

    def _usable_key(self, asked: Name, certificate: Certificate, now: float) -> PublicKey:
        error: TrustError
        if certificate.valid_at(now):
            try:
                return PublicKey.from_spki(certificate.public_der)
            except BadPacket as bad:
                error = KeyNotAllowed(f"certificate {ndn.to_uri(certificate.name)}: {bad}")
        else:
            error = _outside_validity(certificate, now)
        self._fetcher.reject(asked, certificate, error)
        raise error

    # ------------------------------------------------------------ keys known to be good

    def _locate(self, signed: _Signed) -> tuple[KeyLocator, Verdict]:
        """Steps 1 and 2: a signature type that proves authorship, a key locator, a key that the schema allows."""
        if signed.info.type not in PUBLIC_KEY_SIGNATURES:
            raise BadSignature(
                f"{signed.what}: a signature of type {signed.info.type} does not prove who made it",
                hint="signatures of type 1 (RSA), 3 (ECDSA) and 5 (Ed25519) do",
            )
        name = _locator_name(signed)
        located = split_locator(name)
        if located is None:
            raise KeyNotAllowed(f"{signed.what}: its key locator {ndn.to_uri(name)} names no certificate and no key")
        anchor = self._anchor.certificate.key_name
        if located.identity == self._schema.net and located.key_name != anchor:
            raise KeyNotAllowed(f"{signed.what}: {ndn.to_uri(name)} is not the trust anchor {ndn.to_uri(anchor)}")
        return located, _require(signed, name)

    def _known(self, signed: _Signed, located: KeyLocator) -> _Good | None:
        """A key whose chain was verified and is valid now. Certificates of one key are as good as each other."""
        now = self._now()
        if located.key_name == self._anchor.certificate.key_name:
            if not self._anchor.start <= now <= self._anchor.end:
                error = _outside_validity(self._anchor.certificate, now)
                raise CertificateExpired(f"{signed.what}: trust anchor: {error}", hint=_ANCHOR_HINT)
            return self._anchor
        good = self._good.get(located.key_name)
        if good is None:
            return None
        if not good.start <= now <= good.end:
            del self._good[located.key_name]
            return None
        self._good.move_to_end(located.key_name)
        return good

    def _remember(self, certificate: Certificate, key: PublicKey, issuer: _Good) -> _Good:
        start = max(certificate.not_before, issuer.start)
        end = min(certificate.not_after, issuer.end, self._now() + self._cache_s)
        good = _Good(certificate, key, start, end)
        self._good[certificate.key_name] = good
        self._good.move_to_end(certificate.key_name)
        while len(self._good) > self._max_cached:
            self._good.popitem(last=False)
        return good


_ANCHOR_HINT: Final = "import the renewed trust anchor from your operator"


# ---------------------------------------------------------------- single checks


def _is_certificate(name: Name) -> bool:
    """Whether this is the name of a certificate."""
    located = split_locator(name)
    return located is not None and located.is_certificate


def _parsed(data: Data) -> Certificate:
    """Raises BadSignature for Data of a certificate's name that is none."""
    try:
        return parse(data.wire)
    except BadPacket as error:
        raise BadSignature(f"{ndn.to_uri(data.name)} is not a certificate: {error}") from error


def _locator_name(signed: _Signed) -> Name:
    if signed.info.key_locator is None:
        raise BadSignature(f"{signed.what}: it does not name the key that signed it")
    return signed.info.key_locator


def _require(signed: _Signed, key_name: Name) -> Verdict:
    verdict = signed.judge(signed.name, key_name)
    if not verdict.allowed:
        raise KeyNotAllowed(f"{signed.title} {verdict.explanation}")
    return verdict


def _verify(signed: _Signed, good: _Good) -> None:
    if not good.key.verify(signed.info.type, signed.portion, signed.signature):
        key = ndn.to_uri(good.certificate.key_name)
        raise BadSignature(f"{signed.what}: the signature is not one of the key {key}, which it names")


def _conclude(signed: _Signed, good: _Good, verdict: Verdict) -> Validated:
    _verify(signed, good)
    return Validated(good.certificate.key_name, good.certificate.name, verdict.rule)


def _outside_validity(certificate: Certificate, now: float) -> CertificateExpired:
    name = ndn.to_uri(certificate.name)
    if now > certificate.not_after:
        return CertificateExpired(f"certificate {name} expired {format_time(certificate.not_after)}")
    return CertificateExpired(
        f"certificate {name} is not valid before {format_time(certificate.not_before)}",
        hint=f"is this machine's clock right? it says {format_time(now)}",
    )


def _check_anchor(schema: TrustSchema, anchor: Certificate) -> _Good:
    """The anchor is believed because it was put here by hand; these are checks against a wrong file."""
    if anchor.identity != schema.net:
        raise KeyNotAllowed(f"the trust anchor {ndn.to_uri(anchor.name)} is not one of {ndn.to_uri(schema.net)}")
    key = PublicKey.from_spki(anchor.public_der)
    data = anchor.data
    if not anchor.self_signed or not key.verify(data.signature_info.type, data.signed_portion, data.signature):
        raise BadSignature(f"the trust anchor {ndn.to_uri(anchor.name)} is not signed by its own key")
    return _Good(anchor, key, anchor.not_before, anchor.not_after)
