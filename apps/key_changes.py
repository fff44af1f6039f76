"""keys export, renew and revoke: what happens to keys after they were issued.

Owns: these three commands. Must not know: how keys are made (keys.py), how a deny list travels (upkeep.py).
"""

from __future__ import annotations

import argparse
import getpass
import time

from ndn_infer import catalog, ndn
from ndn_infer.apps.upkeep import REVOCATIONS_VALID_S
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.files import write_at_once
from ndn_infer.ndn.name import Name
from ndn_infer.security import bundle as bundles
from ndn_infer.security import provision
from ndn_infer.security.bundle import Bundle
from ndn_infer.security.certificate import format_time, split_locator
from ndn_infer.security.identity import KEY, parse_identity
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.revocation import Denied
from ndn_infer.security.safebag import open_safebag


def who(text: str, net: Name) -> Name:
    """An identity or key, below the network unless it begins with the network's own name. Raises UsageError."""
    named = ndn.from_uri("/" + text.strip("/"))
    name = named if named.startswith(net) else net + named
    located = split_locator(name)
    if parse_identity(net, located.identity if located is not None else name) is None or name.startswith(net + KEY):
        raise UsageError(
            f"{text!r} has no keys in {ndn.to_uri(net)}", hint="SITE, SITE/NODE, SITE/NODE/ROLE or operator"
        )
    if name == net:
        raise UsageError("the trust anchor can be neither handed out nor revoked", hint="make another network instead")
    return name


def export(options: argparse.Namespace, config: Config) -> int:
    if options.out is None:
        raise UsageError("export needs --out FILE")
    keychain = Keychain.open(config.keys_dir)
    identities = [who(options.what, keychain.net)] if options.what else []
    keychain.export_file(options.out, identities, catalog.records_in(config.catalog_dir))
    secret = f"keys of {options.what}; carry it there safely and delete it"
    print(f"{options.out}: {secret if identities else 'the trust anchor and the catalogue: no secret'}")
    return 0


def bundle_of_safebag(text: str, options: argparse.Namespace, config: Config) -> Bundle:
    """What `keys import` takes, of a SafeBag: a self-signed certificate is the trust anchor of a network of its own,
    another one has to be of the network in use. Raises UsageError, StorageError, MissingKey."""
    certificate, key = open_safebag(text, _password(options))
    if certificate.self_signed:
        return Bundle(certificate, (), (key,))
    keychain = Keychain.open(config.keys_dir)
    if not certificate.identity.startswith(keychain.net):
        raise UsageError(
            f"this key is of {ndn.to_uri(certificate.identity)}, not of {ndn.to_uri(keychain.net)}",
            hint="import that network's trust anchor first",
        )
    packed = provision.pack_certificates(keychain.anchor, (*keychain.certificates(), certificate), [certificate])
    return Bundle(packed.anchor, packed.certificates, (key,))


def _password(options: argparse.Namespace) -> bytes:
    if options.password_file is None:
        return getpass.getpass("password of the SafeBag: ").encode()
    try:
        return bytes(options.password_file.read_bytes().rstrip(b"\r\n"))
    except OSError as error:
        raise UsageError(f"cannot read {options.password_file}: {error.strerror}") from error


def renew(options: argparse.Namespace, config: Config) -> int:
    keychain = Keychain.open(config.keys_dir)
    below = who(options.what, keychain.net) if options.what else keychain.net
    days = options.days or config.trust.certificate_days
    made = keychain.renew(below, validity_s=days * 86400.0)
    if not made:
        raise UsageError(f"no certificate of {options.what or 'anybody'} is here to renew")
    for certificate in made:
        print(f"{ndn.to_uri(certificate.identity)} until {format_time(certificate.not_after)}")
    if options.out is not None:
        bundle = provision.pack_certificates(keychain.anchor, keychain.certificates(), made)
        write_at_once(options.out, bundles.encode(bundle).encode("ascii"))
        print(f"{options.out}: these certificates and no private key; 'ndn-infer keys import' takes them there")
    return 0


def revoke(options: argparse.Namespace, config: Config) -> int:
    """Without a name: the list there is, signed again."""
    keychain, denied = Keychain.open(config.keys_dir), list[Denied]()
    target = who(options.what, keychain.net) if options.what else b""
    if target:
        before = 0 if split_locator(target) is not None else time.time_ns() // 1000
        denied.append(Denied(ndn.to_uri(target), before, options.reason))
    known = [entry.certificate.key_name for entry in keychain.entries()]
    keys = [key for key in known if target and key.startswith(target)]
    denied += [Denied(ndn.to_uri(key), 0, options.reason) for key in keys if key != target]
    revoked = catalog.revoke(config.catalog_dir, keychain, denied, valid_s=REVOCATIONS_VALID_S)
    if target:
        keychain.discard(target)
    print(f"revoked {options.what or 'nothing more'}; the deny list has {len(revoked.denied)} entries")
    for key in keys:
        print(f"  {ndn.to_uri(key)} (removed from this machine)")
    print(f"  a producer on this machine offers the list by name; it is valid until {format_time(revoked.until)}")
    return 0
