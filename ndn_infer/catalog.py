"""The catalogue: the operator's signed word on what an alias means, as files that any producer may serve.

Owns: making catalogue records, signing them with the operator's key, keeping them as packets on disk. Must not know:
models' files, sockets. Records are objects like all others: a consumer verifies them, so who serves them is no matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadPacket, BadRecord, StorageError
from ndn_infer.files import write_at_once
from ndn_infer.namespace import CatalogRecord, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.ndn.tlv import Framer
from ndn_infer.records import CorpusRecord, ModelRecord
from ndn_infer.records.guard import PolicyRecord
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.revocation import LIST_ID, LIST_KIND, Denied, DenyList, RevocationList
from ndn_infer.wire.manifest import ObjectPackets, build_object

POLICY = "policy"
KINDS = ("model", "corpus", POLICY, LIST_KIND)
REVOCATION_FRESHNESS_MS = 60_000
CATALOG_FRESHNESS_MS = 600_000
"""How long a cache may go on telling an old meaning of an alias."""


def label(alias: str) -> str:
    """An alias as a name component: Hugging Face ids have a slash."""
    return alias.replace("/", "--")


def publish(directory: Path, keychain: Keychain, record: ModelRecord | CorpusRecord | PolicyRecord) -> list[Path]:
    """Sign `record` under its alias and under its digest. Files that say the same already are left alone.

    Raises MissingKey when this machine does not hold the operator's key, StorageError when the disk refuses.
    """
    kind = "model" if isinstance(record, ModelRecord) else POLICY if isinstance(record, PolicyRecord) else "corpus"
    content = records.encode(record)
    paths = []
    for identifier in (label(record.alias), record.digest):
        path = directory / kind / f"{identifier}.ndn"
        paths.append(path)
        base = CatalogRecord(kind, identifier).to_name(keychain.net)
        if _says(path, base, content):
            continue
        signer = keychain.signer_for(operator_identity(keychain.net))
        version = clock.wall_us()
        packets = build_object(base, version, content, signer.sign_data, freshness_ms=CATALOG_FRESHNESS_MS)
        _write(path, b"".join((packets.metadata, *packets.packets.values())))
    return paths


def revocation_path(directory: Path) -> Path:
    """Where the operator's machine keeps its deny list."""
    return directory / LIST_KIND / f"{LIST_ID}.ndn"


def revoke(directory: Path, keychain: Keychain, denied: Iterable[Denied], *, valid_s: float) -> RevocationList:
    """Sign a deny list with `denied` and everything of the one before, valid for so many seconds. The anchor's key
    signs where it is here, else the operator's. Raises MissingKey, StorageError, BadRecord (more than a list holds)."""
    path, known = revocation_path(directory), DenyList()
    if path.is_file():
        known.join(records.decode(RevocationList, _load_one(path).content()))
    new = known.as_list(clock.wall_s() + valid_s, denied)
    root = keychain.usable(keychain.net) is not None
    signer = keychain.signer_for(keychain.net if root else operator_identity(keychain.net))
    base = CatalogRecord(LIST_KIND, LIST_ID).to_name(keychain.net)
    content = records.encode(new)
    packets = build_object(base, clock.wall_us(), content, signer.sign_data, freshness_ms=REVOCATION_FRESHNESS_MS)
    _write(path, b"".join((packets.metadata, *packets.packets.values())))
    return new


def revocations(directory: Path) -> tuple[ObjectPackets, RevocationList] | None:
    """The deny list of this machine, to be served; None where there is none. Raises BadPacket, BadRecord."""
    path = revocation_path(directory)
    if not path.is_file():
        return None
    packets = _load_one(path)
    return packets, records.decode(RevocationList, packets.content())


def policies_in(directory: Path) -> list[Path]:
    """Files of the operator's records of policies."""
    return sorted((directory / POLICY).glob("*.ndn"))


def records_in(directory: Path) -> list[bytes]:
    """The records in this catalogue, as `install` takes them on another machine. Raises StorageError."""
    try:
        return [path.read_bytes() for path in sorted(directory.glob("*/*.ndn"))]
    except OSError as error:
        raise StorageError(f"cannot read the catalogue in {directory}: {error.strerror}") from error


def install(directory: Path, net: Name, wires: Iterable[bytes]) -> list[str]:
    """Keep records that came from another machine; returns the aliases and digests they are about.

    One that is not newer than what is here changes nothing. Raises BadPacket for what is no catalogue record of `net`.
    Signatures are for those to verify who fetch the records.
    """
    kept = []
    for wire in wires:
        packets = _decode(wire, "a catalogue record")
        named = CatalogRecord.parse(net, packets.base)
        if named is None or "/" in named.id or named.id.startswith(".") or named.record not in KINDS:
            raise BadPacket(f"{ndn.to_uri(packets.base)} is not the name of a catalogue record of {ndn.to_uri(net)}")
        path = directory / named.record / f"{named.id}.ndn"
        if not path.is_file() or _load_one(path).manifest.version < packets.manifest.version:
            _write(path, wire)
        kept.append(named.id)
    return kept


def known(directory: Path, kind: str, alias: str) -> str | None:
    """The digest that `alias` means by the record here; None when there is none. Raises BadPacket, BadRecord."""
    path = directory / kind / f"{label(alias)}.ndn"
    if not path.is_file():
        return None
    record = records.decode(ModelRecord if kind == "model" else CorpusRecord, _load_one(path).content())
    assert isinstance(record, ModelRecord | CorpusRecord)
    return record.digest


def known_policy(directory: Path, name: str) -> PolicyRecord | None:
    """The record here of what the policy's name means; None when there is none. Raises BadPacket, BadRecord."""
    path = directory / POLICY / f"{label(name)}.ndn"
    return records.decode(PolicyRecord, _load_one(path).content()) if path.is_file() else None


def aliases(directory: Path) -> dict[str, str]:
    """digest -> alias, by the records here; damaged ones are left out."""
    found = {}
    for kind in ("model", "corpus"):
        for path in sorted((directory / kind).glob("*.ndn")):
            with contextlib.suppress(BadPacket, BadRecord, StorageError):
                record = records.decode(ModelRecord if kind == "model" else CorpusRecord, _load_one(path).content())
                assert isinstance(record, ModelRecord | CorpusRecord)
                if record.alias != record.digest:
                    found[record.digest] = record.alias
    return found


def load(paths: Iterable[Path]) -> list[ObjectPackets]:
    """The objects in catalogue files; unreadable ones raise BadPacket naming the file."""
    return [_load_one(path) for path in paths if path.is_file()]


def _load_one(path: Path) -> ObjectPackets:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return _decode(content, str(path))


def _decode(content: bytes, what: str) -> ObjectPackets:
    try:
        framer = Framer()
        wires = framer.feed(content)
        if framer.fault is not None:
            raise framer.fault
        return ObjectPackets.of(map(decode_data, wires))
    except (BadPacket, ValueError) as error:
        raise BadPacket(f"{what} is damaged: {error}", hint="delete it; 'ndn-infer up' makes it again") from error


def _says(path: Path, base: Name, content: bytes) -> bool:
    if not path.is_file():
        return False
    try:
        packets = _load_one(path)
    except BadPacket:
        return False
    return packets.base == base and packets.manifest.inline == content


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    write_at_once(path, content, mode=0o644)
