"""Moving keys between machines: what goes into a bundle for a node, and the checks on one that arrives.

Owns: which certificates accompany which keys, and what a bundle must prove before a key directory takes it. Must not
know: the bundle's text (bundle.py), the form of the files (keydir.py). The way in is `Keychain.export` and
`Keychain.import_bundle`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, ConfigError, StorageError, TrustError
from ndn_infer.namespace import operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.security import bundle as bundles
from ndn_infer.security.bundle import Bundle
from ndn_infer.security.certificate import Certificate, split_locator, version_of
from ndn_infer.security.crypto import PrivateKey, PublicKey
from ndn_infer.security.identity import require_identity
from ndn_infer.security.keydir import KeyDirectory


def pack(
    anchor: Certificate, certificates: Iterable[Certificate], holders: Iterable[tuple[Certificate, PrivateKey]]
) -> Bundle:
    """A bundle of these keys, their certificates, those of `certificates` that lead from them to the anchor, and the
    operator's (without its key)."""
    issuers = {item.name: item for item in certificates}
    chosen: dict[Name, Certificate] = {}
    keys: dict[Name, PrivateKey] = {}
    for certificate, key in holders:
        keys[certificate.key_name] = key
        current: Certificate | None = certificate
        while current is not None and current.name not in chosen and not current.self_signed:
            chosen[current.name] = current
            current = issuers.get(current.issuer_locator)
    for certificate in issuers.values():  # so that the node can serve what vouches for the catalogue
        if certificate.identity == operator_identity(anchor.identity):
            chosen[certificate.name] = certificate
    return Bundle(anchor, tuple(chosen.values()), tuple(keys.values()))


def pack_certificates(
    anchor: Certificate, certificates: Iterable[Certificate], wanted: Iterable[Certificate]
) -> Bundle:
    """A bundle of `wanted` and those of `certificates` that lead from them to the anchor. It holds no secret."""
    issuers = {item.name: item for item in certificates}
    chosen: dict[Name, Certificate] = {}
    for item in wanted:
        current: Certificate | None = item
        while current is not None and current.name not in chosen and not current.self_signed:
            chosen[current.name] = current
            current = issuers.get(current.issuer_locator)
    return Bundle(anchor, tuple(chosen.values()), ())


def install(files: KeyDirectory, bundle: Bundle) -> None:
    """Write a bundle into a key directory, which may be empty or of the same anchor.

    Checks everything before it writes anything. Raises TrustError (a certificate that does not lead to the bundle's
    anchor), BadName (one of no identity), StorageError (a key without certificate; the disk), ConfigError (the
    directory is of another anchor).
    """
    check(bundle)
    with files.locked():
        anchor = files.read_anchor()
        if anchor is not None and anchor.public_der != bundle.anchor.public_der:
            raise ConfigError(
                f"the keys in {files.path} belong to another trust anchor ({ndn.to_uri(anchor.key_name)})",
                hint="another network of the same name has its keys there: give '--set paths.data_dir=DIR' with this "
                "and every later command, or move that folder away",
            )
        by_public = {item.public_der: item for item in (*bundle.certificates, bundle.anchor)}
        for key in bundle.keys:
            files.write_key(by_public[key.public_der].key_name, key)
        for certificate in (*bundle.certificates, bundle.anchor):
            files.write_certificate(certificate)
        if anchor is None or version_of(bundle.anchor) > version_of(anchor):
            files.write_anchor(bundle.anchor)


def check(bundle: Bundle) -> None:
    """Whether every certificate leads to the anchor, and every key has one. Raises like `install`."""
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


def read_file(path: Path) -> str:
    """The text of a bundle file, or of its start where it is too large to be one. Raises StorageError."""
    try:
        with path.open("rb") as file:
            return file.read(bundles.MAX_BYTES + 1).decode("ascii")
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}", hint="give the file that 'ndn-infer keys issue --out FILE' wrote"
        ) from error
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is not a key bundle") from error
