"""The keys of a virtual network, in memory: a thousand nodes have theirs in a second.

Owns: a key directory without a disk, and the operator's steps (anchor, certificates of nodes and roles, catalogue).
Must not know: nodes, what runs on them. What is signed is signed and verified as everywhere; Ed25519, whose signatures
all have one length, so that a run's bytes are the same every time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ndn_infer import clock, records
from ndn_infer.catalog import CATALOG_FRESHNESS_MS, label
from ndn_infer.namespace import CatalogRecord, Machine, Role, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.records import ModelRecord
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import ED25519, PrivateKey
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.keydir import KeyDirectory
from ndn_infer.wire.manifest import ObjectPackets, build_object

ANCHOR_LIFE_S: Final = 10 * 365 * 86_400.0


class MemoryKeys(KeyDirectory):
    """A key directory that is forgotten with its process. `also` has keys that it lends, and that are not its own."""

    def __init__(self, also: MemoryKeys | None = None) -> None:
        super().__init__(Path("/nonexistent"))
        self._also = also
        self._certificates: list[Certificate] = []
        self._private: dict[Name, PrivateKey] = {}

    def prepare(self) -> None:
        return

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield

    def read_certificates(self) -> list[Certificate]:
        return [*(self._also.read_certificates() if self._also is not None else ()), *self._certificates]

    def read_key(self, key_name: Name) -> PrivateKey | None:
        found = self._private.get(key_name)
        return self._also.read_key(key_name) if found is None and self._also is not None else found

    def has_key(self, key_name: Name) -> bool:
        return self.read_key(key_name) is not None

    def write_certificate(self, certificate: Certificate) -> None:
        self._certificates.append(certificate)

    def write_key(self, key_name: Name, key: PrivateKey) -> None:
        self._private[key_name] = key

    def give_back(self, kept: Sequence[Certificate]) -> None:
        """Lend nothing any more; `kept` certificates stay."""
        self._also = None
        self._certificates[:0] = kept


class Operator:
    """Whoever runs the network `net`: its anchor, and what that certifies."""

    def __init__(self, net: Name, site: str) -> None:
        self.net = net
        self.site = site
        self._root = MemoryKeys()
        key, name = PrivateKey.generate(ED25519), certs.new_key_name(net)
        self.anchor = certs.self_signed(name, key, clock.wall_s(), ANCHOR_LIFE_S)
        self._root.write_key(name, key)
        self._root.write_certificate(self.anchor)
        self._vouched = [self.anchor]
        self._signs = self._issued(operator_identity(net))
        self._vouched += [item for item in self._signs.certificates() if item.identity == operator_identity(net)]

    def keychain(self, node: str, roles: Sequence[str]) -> Keychain:
        """That of a node: its machine's key, those of its roles, and no other."""
        wanted = [Machine(self.site, node).to_name(self.net)]
        return self._issued(*wanted, *(Role(self.site, node, role).to_name(self.net) for role in roles))

    def _issued(self, *identities: Name) -> Keychain:
        keys = MemoryKeys(self._root)
        Keychain(keys, self.anchor, clock.wall_s).ensure(*identities, kind=ED25519)
        keys.give_back(self._vouched)
        return Keychain(keys, self.anchor, clock.wall_s)

    def catalogue(self, record: ModelRecord) -> list[ObjectPackets]:
        """What the alias and the digest of a model mean, signed."""
        signer = self._signs.signer_for(operator_identity(self.net))
        return [
            build_object(
                CatalogRecord("model", identifier).to_name(self.net), clock.wall_us(), records.encode(record),
                signer.sign_data, freshness_ms=CATALOG_FRESHNESS_MS,
            )
            for identifier in (label(record.alias), record.digest)
        ]  # fmt: skip
