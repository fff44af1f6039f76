"""The tenant domains of one machine: files of keys and members, and what changes them.

Owns: the files below, creating a domain, adding and removing members, joining. Must not know: how keys are wrapped
(domain_keys.py) or used (domains.py), sockets, the trust schema. Everything is below the key directory (keydir.py),
readable by its owner only, written atomically.

    <directory>/encryption/<id>.key       the encryption key of an identity, PKCS#8 PEM
    <directory>/domains/<domain>.domain   DomainFile: keys of all epochs; at the owner the members too
    <directory>/domains/<domain>.<epoch>.packets   the signed key record of an epoch, as `pack` writes it

A signed object travels in a file as base64 of its packets, one after another: metadata, segments, and the certificates
that lead to the network's trust anchor, so that it can be verified without a network.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Final

from ndn_infer import ndn, records
from ndn_infer.errors import BadPacket, BadRecord, MissingKey, StorageError, UsageError
from ndn_infer.files import read_private, write_at_once
from ndn_infer.namespace import DomainKey, EncryptionKey, Role
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import CONTENT_KEY, Data, decode_data
from ndn_infer.records import Reply
from ndn_infer.records.bounds import AtMost, Between, Uri
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_keys import (
    MAX_MEMBERS,
    MAX_NAME,
    DecryptionKey,
    DomainSecret,
    EncryptionKeyRecord,
    Epoch,
    domain_id,
    read_encryption_key,
    unwrap,
    wrap,
)
from ndn_infer.security.domains import KEY_BYTES, MAX_EPOCH, SALT_BYTES, TenantDomain
from ndn_infer.security.keydir import KeyDirectory
from ndn_infer.wire.manifest import ObjectPackets, build_object, decode_manifest

MAX_FILE_BYTES: Final = 4 << 20
MAX_EPOCHS: Final = 1024
"""Of one domain, kept on a machine. Every removal of members begins one: an owner cannot fill its members' disks."""

RECORD_FRESHNESS_MS: Final = 1000
"""Of key records: who was just added shall not be told by a cache that it was not."""

log = logging.getLogger(__name__)

_HINT: Final = "make it again with 'ndn-infer domain card' or 'ndn-infer domain export'"

Validate = Callable[[Data, Sequence[Certificate]], Awaitable[Name]]
"""Proves who signed a Data packet, with certificates at hand; returns the signer's identity. Raises TrustError."""


@dataclass(frozen=True, slots=True)
class EpochKey(Reply):
    epoch: Annotated[int, Between(1, MAX_EPOCH)]
    key: Annotated[bytes, AtMost(KEY_BYTES)]


@dataclass(frozen=True, slots=True)
class DomainMember(Reply):
    """`identity` is a URI, `public` its encryption key as in EncryptionKeyRecord."""

    identity: Uri
    public: Annotated[bytes, AtMost(128)]


@dataclass(frozen=True, slots=True)
class DomainFile(Reply):
    """A domain as its owner and its members keep it, secret. `members` are known to the owner only. Of more epochs
    than MAX_EPOCHS the newest are kept."""

    max_bytes: ClassVar[int] = 4 << 20
    name: Annotated[str, AtMost(MAX_NAME)]
    domain: Annotated[str, AtMost(64)]
    owner: Uri
    salt: Annotated[bytes, AtMost(SALT_BYTES)]
    keys: Annotated[tuple[EpochKey, ...], AtMost(MAX_EPOCHS)]
    members: Annotated[tuple[DomainMember, ...], AtMost(MAX_MEMBERS)] = ()


# ---------------------------------------------------------------- signed objects as files


@dataclass(frozen=True, slots=True)
class SignedObject:
    """A verified object out of a file: its base name, content, and the identity that signed it."""

    base: Name
    content: bytes
    signed_by: Name


def pack(packets: ObjectPackets, certificates: Iterable[Certificate]) -> str:
    """The text of a file with this object."""
    wires = [packets.metadata, *packets.packets.values(), *(item.wire for item in certificates)]
    text = base64.b64encode(b"".join(wires)).decode("ascii")
    return "".join(text[at : at + 64] + "\n" for at in range(0, len(text), 64))


def packets_in(text: str) -> ObjectPackets:
    """The packets of an object in a file of our own, to be served: readers verify them. Raises StorageError."""
    try:
        return ObjectPackets.of(_packets(text))
    except (BadPacket, ValueError) as error:
        raise StorageError(f"this file is damaged, or of another kind: {error}", hint=_HINT) from error


async def unpack(text: str, validate: Validate) -> SignedObject:
    """The object in a file. Raises StorageError for no such file, TrustError when it must not be believed."""
    try:
        packets = _packets(text)
    except (BadPacket, ValueError) as error:
        raise StorageError(f"this file is damaged, or of another kind: {error}", hint=_HINT) from error
    if not packets:
        raise StorageError("this file is empty", hint=_HINT)
    metadata, others = packets[0], {item.name: item for item in packets[1:]}
    try:
        chain = [certs.parse(item.wire) for item in packets[1:] if item.content_type == CONTENT_KEY]
        signed_by = await validate(metadata, chain)
        manifest = decode_manifest(metadata)
        content = manifest.inline
        if content is None:
            found = [others.get(manifest.segment_name(number)) for number in range(manifest.segments)]
            pieces = [item for item in found if item is not None]
            if len(pieces) != manifest.segments or not manifest.digests:
                raise StorageError("this file is cut short", hint=_HINT)
            for number, piece in enumerate(pieces):
                manifest.check_segment(number, piece.wire)
            content = b"".join(piece.content for piece in pieces)
    except BadPacket as error:
        raise StorageError(f"this file holds no object: {error}", hint=_HINT) from error
    return SignedObject(manifest.base, content, signed_by)


def _packets(text: str) -> list[Data]:
    """What `pack` wrote. Raises BadPacket, ValueError."""
    wires = base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    packets, start = [], 0
    for _, _, after in tlv.iterate(wires):
        packets.append(decode_data(wires[start:after]))
        start = after
    return packets


def read_text(path: Path) -> str:
    """A file made by `pack`. Raises StorageError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise StorageError(f"{path} has more than {MAX_FILE_BYTES} bytes", hint=_HINT)
        return content.decode("ascii")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is damaged, or of another kind", hint=_HINT) from error


# ---------------------------------------------------------------- what changes a domain


def create(name: str, owner: Name) -> DomainFile:
    """A new domain in its first epoch, without members. Raises UsageError for a name that is none."""
    if not 1 <= len(name.encode()) <= 64 or not name.isprintable() or name == "public":
        raise UsageError("a domain's name has 1 to 64 printable characters, and is not 'public'")
    salt = secrets.token_bytes(SALT_BYTES)
    first = EpochKey(1, secrets.token_bytes(KEY_BYTES))
    return DomainFile(name, domain_id(owner, salt), ndn.to_uri(owner), salt, (first,))


def add(domain: DomainFile, members: Iterable[DomainMember]) -> DomainFile:
    """With these members too, from the current epoch on: they can read all of it, and nothing older.

    A member that is there already gets its new encryption key.
    """
    known = {item.identity: item for item in domain.members}
    known.update({item.identity: item for item in members})
    return replace(domain, members=tuple(known[identity] for identity in sorted(known)))


def remove(domain: DomainFile, identities: Iterable[str]) -> DomainFile:
    """Without these members, in a new epoch whose key they do not get. Raises UsageError for who is no member."""
    gone = set(identities)
    strangers = gone - {item.identity for item in domain.members}
    if strangers:
        raise UsageError(
            f"no member of {domain.name}: {', '.join(sorted(strangers))}", hint="'ndn-infer domain show' lists them"
        )
    fresh = EpochKey(newest(domain).epoch + 1, secrets.token_bytes(KEY_BYTES))
    left = tuple(item for item in domain.members if item.identity not in gone)
    return replace(domain, keys=(*domain.keys, fresh)[-MAX_EPOCHS:], members=left)


def newest(domain: DomainFile) -> EpochKey:
    return max(domain.keys, key=lambda item: item.epoch)


def issue(domain: DomainFile, net: Name, signer: Signer, version: int) -> ObjectPackets:
    """The key record of the newest epoch for all members, signed by the owner."""
    key = newest(domain)
    base = DomainKey(domain.domain, str(key.epoch)).to_name(net)
    publics = [item.public for item in domain.members]
    content = wrap(base, signer.identity, Epoch(domain.salt, key.epoch), DomainSecret(key.key, domain.name), publics)
    return build_object(base, version, content, signer.sign_data, freshness_ms=RECORD_FRESHNESS_MS)


def card(net: Name, signer: Signer, key: DecryptionKey, version: int) -> ObjectPackets:
    """The public encryption key of the signer's identity, a role. Raises UsageError for another identity."""
    role = Role.parse(net, signer.identity)
    if role is None:
        raise UsageError(f"{ndn.to_uri(signer.identity)} is not a role: members are <net>/<site>/<node>/<role>")
    base = EncryptionKey(role.site, role.node, role.role).to_name(net)
    return build_object(base, version, records.encode(EncryptionKeyRecord(key.public)), signer.sign_data)


def member_of_card(net: Name, signed: SignedObject) -> DomainMember:
    """Whom a verified card stands for. Raises BadRecord."""
    named = EncryptionKey.parse(net, signed.base)
    if named is None or Role(named.site, named.node, named.role).to_name(net) != signed.signed_by:
        raise BadRecord(f"{ndn.to_uri(signed.base)} is not the encryption key of {ndn.to_uri(signed.signed_by)}")
    return DomainMember(ndn.to_uri(signed.signed_by), read_encryption_key(signed.content))


def join(net: Name, signed: SignedObject, keys: Iterable[DecryptionKey], known: DomainFile | None) -> DomainFile:
    """The domain that a key record lets us into, together with what was `known` of it. Raises what `unwrap` raises.

    BadRecord too when the owner gave out two keys for one epoch: one of them came from a copy of the domain's files.
    """
    refused = MissingKey("this machine has no encryption key", hint="make one with 'ndn-infer domain card'")
    for mine in keys:
        try:
            record, secret = unwrap(net, signed.base, signed.content, signed.signed_by, mine)
        except MissingKey as error:
            refused = error
            continue
        key = EpochKey(record.epoch, secret.key)
        if known is None:
            named = DomainKey.parse(net, signed.base)
            assert named is not None  # unwrap has checked it
            return DomainFile(secret.name, named.domain, record.owner, record.salt, (key,))
        epochs = {item.epoch: item for item in known.keys}
        if epochs.setdefault(key.epoch, key) != key:
            raise BadRecord(f"epoch {key.epoch} of domain {known.name} has another key than the one here")
        return replace(known, keys=tuple(epochs[epoch] for epoch in sorted(epochs)[-MAX_EPOCHS:]))
    raise refused


# ---------------------------------------------------------------- files


class DomainStore:
    """The domains in a key directory. Everything raises StorageError, with the path in the message.

    Whoever reads a domain, changes it and saves it does so inside `locked`.
    """

    def __init__(self, keys_dir: Path) -> None:
        self._keys = KeyDirectory(keys_dir)
        self._domains = keys_dir / "domains"
        self._encryption = keys_dir / "encryption"
        self._read: dict[Path, tuple[object, DomainFile | StorageError]] = {}
        self._tenants: dict[Path, tuple[DomainFile, TenantDomain]] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self._keys.locked():
            for directory in (self._domains, self._encryption):
                try:
                    directory.mkdir(mode=0o700, exist_ok=True)
                except OSError as error:
                    raise StorageError(f"cannot make {directory}: {error.strerror}") from error
            yield

    def encryption_key(self, identity: Name) -> DecryptionKey | None:
        pem = read_private(self._encryption / _key_file(identity), MAX_FILE_BYTES)
        return DecryptionKey.from_pem(pem) if pem is not None else None

    def encryption_keys(self) -> list[DecryptionKey]:
        """Of all identities on this machine."""
        found = (read_private(path, MAX_FILE_BYTES) for path in sorted(self._encryption.glob("*.key")))
        return [DecryptionKey.from_pem(pem) for pem in found if pem is not None]

    def make_encryption_key(self, identity: Name) -> DecryptionKey:
        """That of an identity; a new one where there is none. Inside `locked`."""
        key = self.encryption_key(identity)
        if key is None:
            key = DecryptionKey.generate()
            write_at_once(self._encryption / _key_file(identity), key.to_pem())
        return key

    def domains(self) -> list[DomainFile]:
        """All domains known here, by name. One damaged file hides no other: it is left out, with a warning."""
        found = [item for item in self._files().values() if isinstance(item, DomainFile)]
        return sorted(found, key=lambda item: (item.name, item.domain))

    def damaged(self) -> list[StorageError]:
        """What is wrong with files here that cannot be used."""
        return [item for item in self._files().values() if isinstance(item, StorageError)]

    def _files(self) -> dict[Path, DomainFile | StorageError]:
        """Every file, read again when it has changed."""
        paths = sorted(self._domains.glob("*.domain"))
        self._read = {path: item for path in paths if (item := self._read.get(path)) is not None}
        for path in paths:
            stamp = _stamp(path)
            known = self._read.get(path)
            if known is None or known[0] != stamp:
                self._read[path] = (stamp, _read_domain(path))
        return {path: self._read[path][1] for path in paths}

    def find(self, name: str) -> DomainFile:
        """The domain of this name or id. Raises UsageError when there is none, or more than one of this name."""
        found = [item for item in self.domains() if name in (item.name, item.domain)]
        if not found:
            for error in self.damaged():
                raise error
            raise UsageError(f"no domain {name!r} here", hint="'ndn-infer domain list' lists those that are")
        if len(found) > 1:
            ids = ", ".join(item.domain for item in found)
            raise UsageError(f"more than one domain is called {name!r}", hint=f"say which by its id: {ids}")
        return found[0]

    def by_id(self, domain: str) -> DomainFile | None:
        """Raises StorageError when its file is damaged."""
        item = self._files().get(self._domains / f"{domain}.domain")
        if isinstance(item, StorageError):
            raise item
        return item

    def save(self, domain: DomainFile) -> None:
        """Inside `locked`."""
        write_at_once(self._domains / f"{domain.domain}.domain", records.encode(domain))

    def save_record(self, domain: DomainFile, text: str) -> Path:
        """Keep the packed key record of the newest epoch, to be published and handed out. Returns its path."""
        path = self._domains / f"{domain.domain}.{newest(domain).epoch}.packets"
        write_at_once(path, text.encode("ascii"))
        return path

    def record_path(self, domain: DomainFile) -> Path:
        """Where `save_record` put it. Raises UsageError where nothing was put: at members."""
        path = self._domains / f"{domain.domain}.{newest(domain).epoch}.packets"
        if not path.exists():
            raise UsageError(f"the key record of {domain.name} is at its owner, {domain.owner}")
        return path

    def stamp(self) -> object:
        """Another one whenever a domain here has changed."""
        with contextlib.suppress(OSError):
            return tuple(sorted((path.name, path.stat().st_mtime_ns) for path in self._domains.iterdir()))
        return ()

    def records(self) -> list[tuple[ObjectPackets, Name]]:
        """The key records of all epochs of the domains that are owned here, and their owners."""
        found = []
        for domain in self.domains():
            for path in sorted(self._domains.glob(f"{domain.domain}.*.packets")):
                found.append((packets_in(read_text(path)), ndn.from_uri(domain.owner)))
        return found

    def tenants(self) -> list[TenantDomain]:
        """What this machine can read and write."""
        files = self._files()
        for path, item in files.items():
            if isinstance(item, DomainFile) and (path not in self._tenants or self._tenants[path][0] is not item):
                self._tenants[path] = (item, tenant_of(item))
        return [self._tenants[path][1] for path, item in files.items() if isinstance(item, DomainFile)]


def tenant_of(domain: DomainFile) -> TenantDomain:
    return TenantDomain(domain.domain, {item.epoch: item.key for item in domain.keys})


def _check_file(domain: DomainFile, path: Path) -> None:
    epochs = {item.epoch for item in domain.keys}
    sizes = {len(item.key) for item in domain.keys}
    if sizes != {KEY_BYTES} or len(epochs) != len(domain.keys) or not all(1 <= item <= MAX_EPOCH for item in epochs):
        raise BadRecord("its keys are not one an epoch")
    if path.name != f"{domain.domain}.domain":
        raise BadRecord("it holds another domain than its name says")


def _stamp(path: Path) -> object:
    with contextlib.suppress(OSError):
        found = path.stat()
        return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
    return None


def _read_domain(path: Path) -> DomainFile | StorageError:
    try:
        domain = records.decode(DomainFile, read_private(path, MAX_FILE_BYTES) or b"")
        _check_file(domain, path)
        return domain
    except BadRecord as error:
        damaged = StorageError(f"{path} is damaged: {error}", hint="restore it, or remove it and join again")
    except StorageError as error:
        damaged = error
    log.warning("%s", damaged)
    return damaged


def _key_file(identity: Name) -> str:
    return f"{hashlib.sha256(identity).hexdigest()[:32]}.key"
