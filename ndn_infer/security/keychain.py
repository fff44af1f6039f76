"""The keychain of one machine: its identities, their keys, the certificates that vouch for them, the trust anchor.

Owns: making and renewing keys, and finding the one to sign with. Must not know: sockets, the trust schema's rules
(trust.py), the form of the files (keydir.py), how keys travel (provision.py). What it holds in memory is a snapshot of
the directory; `reload` reads it again, and a look-up that finds nothing reloads once by itself, since another process
may have added the key meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Never

from ndn_infer import ndn
from ndn_infer.clock import wall_s
from ndn_infer.errors import ConfigError, MissingKey
from ndn_infer.files import write_at_once
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SignatureInfo
from ndn_infer.security import bundle as bundles
from ndn_infer.security import certificate as certs
from ndn_infer.security import provision
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import ECDSA, PrivateKey, PublicKey, Signer
from ndn_infer.security.identity import Identity, IdentityKind, require_identity
from ndn_infer.security.keydir import KeyDirectory

logger = logging.getLogger(__name__)

DAY_S: Final = 86_400
VALIDITY_S: Final = {
    IdentityKind.ANCHOR: 3650 * DAY_S,
    IdentityKind.OPERATOR: 730 * DAY_S,
    IdentityKind.SITE: 730 * DAY_S,
    IdentityKind.NODE: 90 * DAY_S,
    IdentityKind.ROLE: 90 * DAY_S,
}
"""How long certificates last when nobody says otherwise."""

RENEW_PART: Final = 1 / 3
"""`ensure` renews a certificate in the last third of its life."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of the list: its newest certificate, and whether we hold the private key."""

    identity: Name
    kind: str
    certificate: Certificate
    has_key: bool

    def seconds_left(self, now: float) -> float:
        return self.certificate.not_after - now


class Keychain:
    """Open one with `Keychain.open`, `Keychain.create` or `Keychain.open_or_create`.

    `clock` gives Unix epoch seconds. Not for use by several threads at once; any number of processes may share the
    directory.
    """

    def __init__(self, directory: KeyDirectory, anchor: Certificate, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._anchor = anchor
        self._certificates: dict[Name, Certificate] = {}
        self._keys: dict[Name, PrivateKey] = {}
        self._signers: dict[Name, tuple[Signer, Certificate]] = {}
        self.reload()

    # ------------------------------------------------------------ opening

    @classmethod
    def open(cls, directory: Path, *, clock: Callable[[], float] = wall_s) -> Keychain:
        """An existing key directory. Raises MissingKey when there is none, StorageError when it cannot be read."""
        files = KeyDirectory(directory)
        anchor = files.read_anchor()
        if anchor is None:
            raise MissingKey(f"no keys in {directory}")
        return cls(files, anchor, clock)

    @classmethod
    def create(cls, directory: Path, net: Name, *, kind: str = ECDSA, clock: Callable[[], float] = wall_s) -> Keychain:
        """Make a trust anchor for the network `net`. Raises ConfigError when the directory has one already."""
        files = KeyDirectory(directory)
        with files.locked():
            if files.read_anchor() is not None:
                raise ConfigError(f"{directory} holds the keys of a network already", hint="choose another directory")
            return cls._make(files, net, kind, clock)

    @classmethod
    def open_or_create(
        cls, directory: Path, net: Name, *, kind: str = ECDSA, clock: Callable[[], float] = wall_s
    ) -> Keychain:
        """Like `open`, making the anchor when there is none; of two processes one makes it and both open it.

        Raises ConfigError when the directory holds the keys of another network.
        """
        files = KeyDirectory(directory)
        with files.locked():
            anchor = files.read_anchor()
            if anchor is None:
                return cls._make(files, net, kind, clock)
        if anchor.identity != net:
            raise ConfigError(
                f"the keys in {directory} are of {ndn.to_uri(anchor.identity)}, not of {ndn.to_uri(net)}",
                hint="'ndn-infer keys use NET' chooses the network; --set network.net=NET does so for one command",
            )
        return cls(files, anchor, clock)

    @classmethod
    def _make(cls, files: KeyDirectory, net: Name, kind: str, clock: Callable[[], float]) -> Keychain:
        require_identity(net, net)
        if not net:
            raise ConfigError("a network's name has one component at least", hint="for example /ndn-infer/local")
        key = PrivateKey.generate(kind)
        key_name = certs.new_key_name(net)
        anchor = certs.self_signed(key_name, key, clock(), VALIDITY_S[IdentityKind.ANCHOR])
        files.write_key(key_name, key)
        files.write_certificate(anchor)
        files.write_anchor(anchor)
        logger.info("made the trust anchor %s", ndn.to_uri(anchor.name))
        return cls(files, anchor, clock)

    def reload(self) -> None:
        """Read the directory again."""
        anchor = self._directory.read_anchor()
        self._anchor = anchor if anchor is not None else self._anchor
        self._certificates = {item.name: item for item in self._directory.read_certificates()}
        self._signers.clear()

    # ------------------------------------------------------------ looking

    @property
    def net(self) -> Name:
        return self._anchor.identity

    @property
    def anchor(self) -> Certificate:
        return self._anchor

    def certificates(self) -> tuple[Certificate, ...]:
        """Every certificate in the directory, newest first: what this machine serves to those who validate its Data.

        Newest first, because whoever asks with a key's name is to get the certificate that ends last.
        """
        return tuple(sorted(self._certificates.values(), key=certs.version_of, reverse=True))

    def entries(self) -> tuple[KeyEntry, ...]:
        """One entry a key, with its newest certificate, in the order of names."""
        newest: dict[Name, Certificate] = {}
        for item in self._certificates.values():
            known = newest.get(item.key_name)
            if known is None or certs.version_of(item) > certs.version_of(known):
                newest[item.key_name] = item
        return tuple(
            KeyEntry(
                item.identity, self._identity(item.identity).kind.value, item, self._directory.has_key(item.key_name)
            )
            for item in sorted(newest.values(), key=lambda item: item.name)
        )

    def signer_for(self, identity: Name) -> Signer:
        """The signer of an identity: its newest valid certificate whose private key is here.

        Raises MissingKey, or BadName when this is no identity of the network.
        """
        cached = self._signers.get(identity)
        if cached is not None and cached[1].valid_at(self._clock()):
            return cached[0]
        found = self.usable(identity)
        if found is None:
            self.reload()
            found = self.usable(identity)
        if found is None:
            self._raise_missing(identity)
        certificate, key = found
        signer = Signer.of(key, identity, certificate.name)
        self._signers[identity] = (signer, certificate)
        return signer

    def _raise_missing(self, identity: Name) -> Never:
        """Say in words why this identity cannot sign here. Raises MissingKey, or BadName for no identity."""
        owner = self._identity(identity)
        mine = [item for item in self._certificates.values() if item.identity == identity]
        if mine and self._key(mine[0].key_name) is not None:
            end = certs.format_time(max(item.not_after for item in mine))
            raise MissingKey(
                f"the certificate of {ndn.to_uri(identity)} ({owner.words()}) is not valid now; it ends {end}",
                hint="renew it with 'ndn-infer keys issue', or import a new bundle from your operator",
            )
        raise MissingKey(f"no private key of {ndn.to_uri(identity)} ({owner.words()}) in {self._directory.path}")

    def usable(self, identity: Name) -> tuple[Certificate, PrivateKey] | None:
        """The newest valid certificate of an identity whose private key is here, with this key."""
        now = self._clock()
        mine = [item for item in self._certificates.values() if item.identity == identity and item.valid_at(now)]
        for certificate in sorted(mine, key=certs.version_of, reverse=True):
            key = self._key(certificate.key_name)
            if key is not None:
                return certificate, key
        return None

    def _key(self, key_name: Name) -> PrivateKey | None:
        if key_name not in self._keys:
            key = self._directory.read_key(key_name)
            if key is None:
                return None
            self._keys[key_name] = key
        return self._keys[key_name]

    def _identity(self, identity: Name) -> Identity:
        return require_identity(self.net, identity)

    # ------------------------------------------------------------ issuing

    def issue(self, identity: Name, *, validity_s: float | None = None, kind: str = ECDSA) -> Certificate:
        """A new key for an identity, certified by the anchor's key, or by its site's where only that is here.

        `validity_s` counts from now; a certificate never outlives its issuer's. Raises MissingKey when no key that may
        certify it is here, BadName when it is no identity of this network, ConfigError for the anchor itself.
        """
        with self._directory.locked():
            self.reload()
            return self._issue(identity, validity_s, kind)

    def ensure(self, *identities: Name, validity_s: float | None = None, kind: str = ECDSA) -> None:
        """Make every one of these identities able to sign: issue what is missing, renew what ends soon.

        Idempotent; of two processes that call it at once, one issues and both use the same key. A certificate in the
        last third of its life is renewed for the same key when the issuing key is here, else kept while it is valid.
        Raises like `issue`; MissingKey only after all identities that can be served have been.
        """
        self.reload()
        if all(self._is_fresh(identity) for identity in identities):
            return
        with self._directory.locked():
            self.reload()
            missing: MissingKey | None = None
            for identity in identities:
                try:
                    if not self._is_fresh(identity):
                        self._freshen(identity, validity_s, kind)
                except MissingKey as error:
                    missing = missing or error
            if missing is not None:
                raise missing

    def _is_fresh(self, identity: Name) -> bool:
        now = self._clock()
        found = self.usable(identity)
        if found is None:
            return False
        certificate = found[0]
        life = certificate.not_after - certificate.not_before
        return now < certificate.not_after - RENEW_PART * life

    def _freshen(self, identity: Name, validity_s: float | None, kind: str) -> None:
        usable = self.usable(identity)
        if self._identity(identity).kind is IdentityKind.ANCHOR:
            self._renew_anchor(validity_s)
            return
        old = usable[0] if usable is not None else self._newest_with_key(identity)
        if old is None:
            self._issue(identity, validity_s, kind)
            return
        try:
            self._certify(identity, old.key_name, old.public_der, validity_s, usable)
        except MissingKey:
            if usable is None:
                raise
            end = certs.format_time(usable[0].not_after)
            logger.warning("the certificate of %s ends %s; its issuer's key is not here", ndn.to_uri(identity), end)

    def renew(self, below: Name, *, validity_s: float | None = None) -> list[Certificate]:
        """New certificates for the keys of `below` and of all identities below it, as far as the key that issues them
        is here. Theirs may be elsewhere: certificates are no secret. The anchor is renewed by `ensure`."""
        with self._directory.locked():
            self.reload()
            made = []
            for entry in self.entries():
                anchor = self._identity(entry.identity).kind is IdentityKind.ANCHOR
                if entry.identity.startswith(below) and not anchor:
                    old = entry.certificate
                    made.append(self._certify(entry.identity, old.key_name, old.public_der, validity_s, None))
            return made

    def discard(self, below: Name) -> list[Name]:
        """Remove the keys and certificates of `below` and of all identities below it from this machine; the names of
        those keys. Never the anchor's."""
        with self._directory.locked():
            self.reload()
            gone: dict[Name, None] = {}
            for certificate in list(self._certificates.values()):
                named = below in (certificate.key_name, certificate.name)
                if (named or certificate.identity.startswith(below)) and certificate.identity != self.net:
                    self._directory.remove(certificate)
                    gone[certificate.key_name] = None
                    self._keys.pop(certificate.key_name, None)
            self.reload()
            return list(gone)

    def _newest_with_key(self, identity: Name) -> Certificate | None:
        mine = [item for item in self._certificates.values() if item.identity == identity]
        mine = [item for item in mine if self._key(item.key_name) is not None]
        return max(mine, key=certs.version_of, default=None)

    def _issue(self, identity: Name, validity_s: float | None, kind: str) -> Certificate:
        if self._identity(identity).kind is IdentityKind.ANCHOR:
            raise ConfigError("the trust anchor is made once, by 'ndn-infer keys init'", hint="use another directory")
        key = PrivateKey.generate(kind)
        key_name = certs.new_key_name(identity)
        self._issuer(identity)  # before anything is written
        self._directory.write_key(key_name, key)
        return self._certify(identity, key_name, key.public_der, validity_s, None)

    def certify(
        self, identity: Name, key_name: Name, public_der: bytes, *, validity_s: float | None = None
    ) -> Certificate:
        """A certificate for a key whose private half is elsewhere (made on the machine that uses it).

        Raises MissingKey, BadName, ConfigError (the key name is not one of this identity), BadPacket (unusable key).
        """
        PublicKey.from_spki(public_der)
        located = certs.split_locator(key_name)
        if located is None or located.is_certificate or located.identity != identity:
            raise ConfigError(f"{ndn.to_uri(key_name)} is not a key of {ndn.to_uri(identity)}")
        if self._identity(identity).kind is IdentityKind.ANCHOR:
            raise ConfigError("the trust anchor is certified by itself only")
        with self._directory.locked():
            self.reload()
            return self._certify(identity, key_name, public_der, validity_s, None)

    def _certify(
        self,
        identity: Name,
        key_name: Name,
        public_der: bytes,
        validity_s: float | None,
        current: tuple[Certificate, PrivateKey] | None,
    ) -> Certificate:
        """Sign and store a certificate; `current` is returned instead where a new one would last no longer."""
        issuer, key, word = self._issuer(identity)
        now = self._clock()
        life = VALIDITY_S[self._identity(identity).kind] if validity_s is None else validity_s
        end = min(int(now + life), issuer.not_after)
        if current is not None and end <= current[0].not_after:
            return current[0]
        certificate = certs.build(
            certs.certificate_name(key_name, word, self._next_version(key_name)),
            public_der,
            info=SignatureInfo(key.signature_type, issuer.name),
            sign=key.sign,
            validity=(int(now) - certs.CLOCK_SKEW_S, end),
        )
        self._add(certificate)
        logger.info("certified %s until %s", ndn.to_uri(certificate.name), certs.format_time(end))
        return certificate

    def _issuer(self, identity: Name) -> tuple[Certificate, PrivateKey, str]:
        """Who certifies this identity here, and the word for it in the certificate's name."""
        owner = self._identity(identity)
        root = self.usable(self.net)
        if root is not None:
            return *root, "root"
        if owner.kind in (IdentityKind.NODE, IdentityKind.ROLE):
            site = self.usable(self.net + ndn.generic(owner.site))
            if site is not None:
                return *site, "site"
        raise MissingKey(
            f"no key that may certify {ndn.to_uri(identity)} ({owner.words()}) in {self._directory.path}",
            hint="run 'ndn-infer keys issue' where the root key is, and 'ndn-infer keys import' here",
        )

    def _renew_anchor(self, validity_s: float | None) -> None:
        """The same key with a later end. Chains stay valid, since they end at the key; others import the new one."""
        key = self._key(self._anchor.key_name)
        if key is None:
            raise MissingKey(f"the root key of {ndn.to_uri(self.net)} is not in {self._directory.path}")
        life = VALIDITY_S[IdentityKind.ANCHOR] if validity_s is None else validity_s
        version = self._next_version(self._anchor.key_name)
        anchor = certs.self_signed(self._anchor.key_name, key, self._clock(), life, version=version)
        self._add(anchor)
        self._directory.write_anchor(anchor)
        self._anchor = anchor
        logger.warning("renewed the trust anchor %s: other machines need it too", ndn.to_uri(anchor.name))

    def _next_version(self, key_name: Name) -> int:
        used = [certs.version_of(item) for item in self._certificates.values() if item.key_name == key_name]
        return max([int(self._clock() * 1e6), *(number + 1 for number in used)])

    def _add(self, certificate: Certificate) -> None:
        self._directory.write_certificate(certificate)
        self._certificates[certificate.name] = certificate
        self._signers.pop(certificate.identity, None)

    # ------------------------------------------------------------ other machines

    def export(self, identities: Iterable[Name], records: Iterable[bytes] = ()) -> str:
        """A bundle (text, to be kept secret) of these identities and of all below them that can sign now.

        Without identities it holds the anchor's certificate alone: what a reader needs. The anchor's private key goes
        along only when `net` is among `identities`, and then without those below. Raises MissingKey when one of them
        has no key here that can sign, itself or below. `records` of the catalogue go along as they are.
        """
        self.reload()
        holders: list[tuple[Certificate, PrivateKey]] = []
        for wanted in identities:
            below = {item.identity for item in self._certificates.values() if item.identity.startswith(wanted)}
            found = [self.usable(identity) for identity in (sorted(below) if wanted != self.net else [wanted])]
            if not any(found):
                self._raise_missing(wanted)
            holders += [item for item in found if item is not None]
        bundle = provision.pack(self._anchor, self._certificates.values(), holders)
        return bundles.encode(replace(bundle, records=tuple(records)))

    def export_file(self, path: Path, identities: Iterable[Name], records: Iterable[bytes] = ()) -> None:
        """`export` into a file of mode 0600. Raises StorageError too."""
        write_at_once(path, self.export(identities, records).encode("ascii"))

    @classmethod
    def import_bundle(cls, directory: Path, text: str, *, clock: Callable[[], float] = wall_s) -> Keychain:
        """Take a bundle's keys and certificates into a directory, which may be empty or of the same network.

        Raises StorageError (no bundle), TrustError (signatures that do not verify), ConfigError (another network).
        """
        provision.install(KeyDirectory(directory), bundles.decode(text))
        return cls.open(directory, clock=clock)

    @classmethod
    def import_file(cls, directory: Path, path: Path, *, clock: Callable[[], float] = wall_s) -> Keychain:
        """`import_bundle` from a file. Raises StorageError too."""
        return cls.import_bundle(directory, provision.read_file(path), clock=clock)
