"""Keys and certificates in memory, for the tests of security/: an authority that issues whatever a test asks for."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from ndn_infer import ndn
from ndn_infer.errors import Timeout
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data, SignatureInfo, decode_data
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import ECDSA, PrivateKey, Signer
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator

NET = ndn.from_uri("/ndn-infer/local")
NOW = 1_800_000_000.0
DAY = 86_400
DIGEST = "0123456789abcdef" * 4


def under_net(uri: str) -> Name:
    return NET + ndn.from_uri(uri) if uri else NET


def kv_name(version: int = 1) -> Name:
    uri = f"/model/{DIGEST}/kv/public/bf16/{DIGEST}/0-29/32=metadata/v={version}/seg=0"
    return under_net(uri)


@dataclass(frozen=True)
class Holder:
    """A key with its certificate."""

    certificate: Certificate
    key: PrivateKey

    @property
    def signer(self) -> Signer:
        return Signer.of(self.key, self.certificate.identity, self.certificate.name)

    def data(self, name: Name, content: bytes = b"content") -> Data:
        return decode_data(self.signer.sign_data(name, content))


@dataclass
class Authority:
    """Issues certificates, and serves them by name to a validator, counting how often it was asked."""

    net: Name = NET
    kind: str = ECDSA
    now: float = NOW
    served: dict[Name, bytes] = field(default_factory=dict)
    asked: list[Name] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    fail_next: int = 0
    gate: asyncio.Event | None = None
    count: int = 0

    def __post_init__(self) -> None:
        self.root = self.issue("", None)

    def issue(
        self,
        identity: str | Name,
        issuer: Holder | None,
        *,
        start: float | None = None,
        end: float | None = None,
        key: PrivateKey | None = None,
        key_id: str = "",
        public_der: bytes | None = None,
        locator: Name | None = None,
    ) -> Holder:
        """A certificate for an identity below the net ("" is the anchor); `issuer` None means self-signed."""
        owner = identity if isinstance(identity, bytes) else self.net + (ndn.from_uri(identity) if identity else b"")
        key = key or PrivateKey.generate(self.kind)
        self.count += 1
        key_name = certs.key_name(owner, ndn.generic(key_id or secrets.token_hex(4)))
        name = certs.certificate_name(key_name, "self" if issuer is None else "issuer", self.count)
        signing = key if issuer is None else issuer.key
        default_locator = name if issuer is None else issuer.certificate.name
        certificate = certs.build(
            name,
            public_der or key.public_der,
            info=SignatureInfo(signing.signature_type, locator or default_locator),
            sign=signing.sign,
            validity=(int(self.now - DAY if start is None else start), int(self.now + DAY if end is None else end)),
        )
        self.serve(certificate)
        return Holder(certificate, key)

    def serve(self, certificate: Certificate) -> None:
        self.served[certificate.name] = certificate.wire
        self.served[certificate.key_name] = certificate.wire

    async def fetch(self, name: Name) -> bytes:
        self.asked.append(name)
        if self.gate is not None:
            await self.gate.wait()
        if self.fail_next:
            self.fail_next -= 1
            raise Timeout("no answer")
        if name not in self.served:
            raise Timeout("nobody has it")
        return self.served[name]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def validator(self, anchor: Holder | None = None, **options: Any) -> Validator:
        """One whose clocks stand still unless a test moves `now`."""
        return Validator(
            TrustSchema.load(self.net),
            (anchor or self.root).certificate,
            self.fetch,
            now=lambda: self.now,
            monotonic=lambda: self.now,
            sleep=self.sleep,
            **options,
        )


def site_chain(authority: Authority) -> tuple[Holder, Holder]:
    """A site's key, and a decode key that this site certified."""
    site = authority.issue("/home", authority.root)
    return site, authority.issue("/home/n1/decode", site)
