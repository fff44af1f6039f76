"""Moving keys between machines: what an operator exports for a node, and what the node imports.

Owns: which keys and certificates go into a bundle, and the checks on one that arrives. Must not know: the bundle's text
(bundle.py), the files of a key directory (keydir.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ndn_infer import name as ndn
from ndn_infer.errors import BadPacket, ConfigError, StorageError, TrustError
from ndn_infer.name import Name
from ndn_infer.security import bundle as bundles
from ndn_infer.security.certificate import Certificate, split_locator, version_of
from ndn_infer.security.crypto import PrivateKey, PublicKey
from ndn_infer.security.identity import require_identity
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.keydir import KeyDirectory, write_private


def export_bundle(keychain: Keychain, identities: Iterable[Name]) -> str:
    """A bundle (text, to be kept secret) of these identities and of all below them that can sign now.

    The anchor's own private key goes along only when `net` itself is among `identities`, and then without the others.
    Raises MissingKey when one of `identities` has nothing that could sign, itself or below.
    """
    keychain.reload()
    issuers = {item.name: item for item in keychain.certificates()}
    chosen: dict[Name, Certificate] = {}
    keys: dict[Name, PrivateKey] = {}
    for wanted in identities:
        below = {item.identity for item in issuers.values() if item.identity.startswith(wanted)}
        found = [keychain.usable(identity) for identity in (sorted(below) if wanted != keychain.net else [wanted])]
        if not any(found):
            keychain.raise_missing(wanted)
        for certificate, key in filter(None, found):
            keys[certificate.key_name] = key
            _collect_chain(certificate, issuers, chosen)
    return bundles.encode(bundles.Bundle(keychain.anchor, tuple(chosen.values()), tuple(keys.values())))


def export_file(keychain: Keychain, path: Path, identities: Iterable[Name]) -> None:
    """`export_bundle` into a file of mode 0600. Raises StorageError too."""
    write_private(path, export_bundle(keychain, identities).encode("ascii"))


def _collect_chain(certificate: Certificate, issuers: dict[Name, Certificate], chosen: dict[Name, Certificate]) -> None:
    """Add a certificate and those of its issuers, the anchor's not."""
    current: Certificate | None = certificate
    while current is not None and current.name not in chosen and not current.self_signed:
        chosen[current.name] = current
        current = issuers.get(current.issuer_locator)


def import_bundle(directory: Path, text: str, *, clock: Callable[[], float] = time.time) -> Keychain:
    """Take a bundle's keys and certificates into a directory, which may be empty or of the same network.

    Every certificate must lead to the bundle's anchor, and a directory that has an anchor keeps its key. Raises
    StorageError (no bundle), TrustError (signatures that do not verify), ConfigError (another network).
    """
    bundle = bundles.decode(text)
    _check(bundle)
    files = KeyDirectory(directory)
    with files.locked():
        anchor = files.read_anchor()
        if anchor is not None and anchor.public_der != bundle.anchor.public_der:
            raise ConfigError(
                f"the keys in {directory} belong to another trust anchor ({ndn.to_uri(anchor.key_name)})",
                hint="choose another key directory for this network",
            )
        by_public = {item.public_der: item for item in (*bundle.certificates, bundle.anchor)}
        for key in bundle.keys:
            files.write_key(by_public[key.public_der].key_name, key)
        for certificate in (*bundle.certificates, bundle.anchor):
            files.write_certificate(certificate)
        if anchor is None or version_of(bundle.anchor) > version_of(anchor):
            files.write_anchor(bundle.anchor)
    return Keychain.open(directory, clock=clock)


def import_file(directory: Path, path: Path, *, clock: Callable[[], float] = time.time) -> Keychain:
    """`import_bundle` from a file. Raises StorageError too."""
    try:
        with path.open("rb") as file:
            text = file.read(bundles.MAX_BYTES + 1).decode("ascii")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is no key bundle") from error
    return import_bundle(directory, text, clock=clock)


def _check(bundle: bundles.Bundle) -> None:
    """Whether every certificate leads to the anchor, and every key has one. Raises TrustError or StorageError."""
    anchor = bundle.anchor
    good = {anchor.key_name: anchor}
    if not _signed_by(anchor, good):
        raise TrustError(f"the bundle's trust anchor {ndn.to_uri(anchor.name)} is not signed by its own key")
    left = list(bundle.certificates)
    while left:
        signed = [item for item in left if _signed_by(item, good)]
        if not signed:
            raise TrustError(f"the bundle's certificate {ndn.to_uri(left[0].name)} does not lead to its anchor")
        for item in signed:
            require_identity(anchor.identity, item.identity)
            good.setdefault(item.key_name, item)
        left = [item for item in left if item not in signed]
    publics = {item.public_der for item in good.values()}
    if any(key.public_der not in publics for key in bundle.keys):
        raise StorageError("a private key of this bundle belongs to none of its certificates")


def _signed_by(item: Certificate, issuers: dict[Name, Certificate]) -> bool:
    """Whether one of `issuers` (by key name) signed this certificate."""
    located = split_locator(item.issuer_locator)
    issuer = issuers.get(located.key_name) if located is not None else None
    if issuer is None:
        return False
    try:
        key = PublicKey.from_spki(issuer.public_der)
    except BadPacket:
        return False
    return key.verify(item.data.signature_info.type, item.data.signed_portion, item.data.signature)
