"""Suites and scores as signed objects: made, written to a file, published, and read back believed.

Owns: from a statement to an object of the kind Evidence and back, wherever its packets come from. Must not know: what a
statement says.

A file holds the packets that the network would give, and the certificates of the key that signed them: whoever trusts
the network's anchor verifies it without the network, as packets and as an envelope.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import (
    BadName,
    BadPacket,
    BadRecord,
    BadSignature,
    CallError,
    CertificateUnavailable,
    FetchIncomplete,
    NetworkError,
    StorageError,
    TrustError,
)
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.statement import Statement
from ndn_infer.files import write_at_once
from ndn_infer.namespace import REPO, Evidence, Role
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import CONTENT_KEY, Data, decode_data
from ndn_infer.ndn.tlv import Framer
from ndn_infer.node.keys import USER, role_identity
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.repo.records import RepoClient
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.wire.manifest import ObjectPackets, build_object

MOST_BYTES: Final = 48 << 20
"""Of an envelope."""
MOST_IN_FILE: Final = 2 * MOST_BYTES
MOST_OBJECTS: Final = 8
REPO_WAIT_S: Final = 30.0
FRESHNESS_MS: Final = 3_600_000
"""A record of one name never changes."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A statement that was verified. `name`: URI of its object, without version; `signer`: the identity that vouches
    for it; `wire`: its envelope; `packets`: those of its object."""

    name: str
    signer: Name
    said: Statement
    wire: bytes
    packets: tuple[bytes, ...]


def vouch(net: Name, signer: Signer, topic: str, said: Statement) -> Vouched:
    """Sign a statement, as an envelope and as an object below the signer's identity. Raises BadRecord."""
    wire = dsse.encode(dsse.sign(statement.encode(said), signer))
    if len(wire) > MOST_BYTES:
        raise BadRecord(f"a record of {len(wire)} bytes, and {MOST_BYTES} are the most")
    role = Role.parse(net, signer.identity)
    assert role is not None
    digest = hashlib.sha256(wire).hexdigest()
    base = Evidence(role.site, role.node, role.role, PUBLIC.label, topic, digest).to_name(net)
    packets = build_object(base, clock.wall_us(), wire, signer.sign_data)
    wires = (packets.metadata, *packets.packets.values())
    return Vouched(ndn.to_uri(base), signer.identity, said, wire, wires)


# ---------------------------------------------------------------- files


def write(path: Path, vouched: Sequence[Vouched], certificates: Iterable[Certificate]) -> None:
    """Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    packets = [wire for one in vouched for wire in one.packets]
    write_at_once(path, *packets, *(one.data.wire for one in certificates), mode=0o644)


async def read(path: Path, config: Config, keychain: Keychain) -> list[Vouched]:
    """The records in a file, in their order, verified without the network. Raises StorageError, BadPacket, BadRecord,
    TrustError."""
    packets = _packets(path)
    validator = Validator(trust_schema(config, keychain.net), keychain.anchor, _no_network)
    validator.add_certificates(*keychain.certificates())
    validator.add_certificates(*(certs.parse(one.wire) for one in packets if one.content_type == CONTENT_KEY))
    try:
        found = []
        for one in _objects(packets):
            signed_by = await validator.validate(one[0])
            whole = _whole(one)
            said = _said(whole.base, whole.content(), validator, signed_by)
            found.append(replace(said, packets=tuple(data.wire for data in one)))
        return found
    finally:
        await validator.aclose()


def _packets(path: Path) -> list[Data]:
    """Raises StorageError, BadPacket."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_IN_FILE + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MOST_IN_FILE:
        raise BadPacket(f"{path} has more than {MOST_IN_FILE} bytes")
    framer = Framer()
    try:
        packets = [decode_data(bytes(wire)) for wire in framer.feed(content)]
    except ValueError as error:
        raise BadPacket(f"{path} is damaged: {error}") from error
    if framer.fault is not None or not packets:
        raise BadPacket(f"{path} holds no packets", hint="a file as 'ndn-infer eval run -o FILE' writes it")
    return packets


def _objects(packets: Sequence[Data]) -> list[list[Data]]:
    """Those of each object; its metadata packet is the first one. Raises BadPacket for more than MOST_OBJECTS."""
    found: list[list[Data]] = []
    for data in packets:
        if METADATA in ndn.components(data.name):
            found.append([data])
        elif found and data.content_type != CONTENT_KEY:
            found[-1].append(data)
    if not 1 <= len(found) <= MOST_OBJECTS:
        raise BadPacket(f"{len(found)} objects, and 1 to {MOST_OBJECTS} are taken")
    return found


async def _no_network(name: Name) -> bytes:
    raise CertificateUnavailable(f"the file does not hold the certificate {ndn.to_uri(name)}")


def _whole(packets: list[Data]) -> ObjectPackets:
    """Every packet compared with the digest that the metadata packet, the first one, holds. Raises DigestMismatch,
    BadPacket."""
    found = ObjectPackets.of(packets)
    manifest = found.manifest
    if manifest.manifest_digests:
        digests = b""
        for number in range(len(manifest.manifest_digests) // 32):
            wire = _packet(found, manifest.manifest_name(number))
            manifest.check_manifest_segment(number, wire)
            digests += decode_data(wire).content
        manifest = manifest.with_digests(digests)
    for number in range(manifest.segments):
        manifest.check_segment(number, _packet(found, manifest.segment_name(number)))
    return found


def _packet(found: ObjectPackets, name: Name) -> bytes:
    wire = found.packets.get(name)
    if wire is None:
        raise BadPacket(f"{ndn.to_uri(name)} is missing")
    return wire


# ---------------------------------------------------------------- the network


async def publish(node: Node, client: Client, vouched: Vouched, repo: str = "") -> str:
    """Offer a record of ours for as long as `client` is open, and have a repo keep it: `repo` (an identity's URI), or
    that of this machine. "" where one does, else why none. Raises RegistrationRefused, Timeout, MissingKey."""
    published = await client.publish(ndn.from_uri(vouched.name), vouched.wire, freshness_ms=FRESHNESS_MS)
    identity = ndn.from_uri(repo) if repo else role_identity(node.config, REPO)
    keeper = RepoClient(node.endpoint, node.validator, node.net, identity, node.signer_as(USER))
    hints = (ndn.from_uri(published.hint),)
    try:
        await keeper.insert(ndn.from_uri(published.source), hints=hints, pin=True, deadline_s=REPO_WAIT_S)
    except (NetworkError, CallError, TrustError) as error:
        return str(error)
    return ""


async def fetch(node: Node, uri: str, topic: str) -> Vouched:
    """The record of this name, verified. Raises BadName, FetchIncomplete, Timeout, Nacked, TrustError, BadRecord."""
    base, _ = ndn.split_version(ndn.from_uri(uri))
    named = Evidence.parse(node.net, base)
    if named is None or named.topic != topic:
        raise BadName(f"{uri} names no {topic}", hint=f"<identity>/evidence/public/{topic}/<digest>, or a file")
    found = await node.fetcher.discover(base)
    if found.manifest is None:
        raise FetchIncomplete(f"there is no {uri}, its producer says")
    fetched = await node.fetcher.collect(found, most=MOST_BYTES)
    return _said(base, fetched.content, node.validator, fetched.signed_by)


def _said(base: Name, wire: bytes, validator: Validator, signed_by: Validated) -> Vouched:
    """From verified content: it is what its name says, and its envelope is signed by the same key."""
    named = Evidence.parse(validator.net, base)
    if named is None:
        raise BadRecord(f"{ndn.to_uri(base)} names no record")
    if hashlib.sha256(wire).hexdigest() != named.content:
        raise BadRecord(f"{ndn.to_uri(base)} is not what its name says")
    envelope, certificate = dsse.decode(wire, MOST_BYTES), validator.certified(signed_by.key_name)
    if certificate is None or not dsse.verify(envelope, certificate.public_der):
        raise BadSignature(f"{ndn.to_uri(base)}: its envelope is not signed by the key of its packets")
    said = statement.decode(envelope.payload, MOST_BYTES)
    if said.predicate_type != f"urn:ndn-infer:{named.topic}:1":
        raise BadRecord(f"{ndn.to_uri(base)} says {said.predicate_type}")
    return Vouched(ndn.to_uri(base), signed_by.identity, said, wire, ())
