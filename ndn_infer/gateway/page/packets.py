"""One kept packet as a document: its bytes, their elements, who signed it, and the certificates up to the anchor.

Owns: this document. Must not know: HTTP, how packets are kept.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.gateway.answers.names import name_document
from ndn_infer.gateway.answers.origins import MEANINGS
from ndn_infer.gateway.answers.record import KeptPacket, SeenAnswer
from ndn_infer.gateway.page.dissect import dissect
from ndn_infer.ndn.name import Name
from ndn_infer.security.certificate import Certificate, format_time, split_locator
from ndn_infer.security.validator import Validator

MAX_SHOWN: Final = 9000
"""Bytes of a packet: one of this project has 8,800 at most."""
MAX_CHAIN: Final = 8


def packet_document(record: SeenAnswer, packet: KeptPacket, validator: Validator) -> dict[str, Any]:
    wire = packet.wire[:MAX_SHOWN]
    document: dict[str, Any] = {
        "uri": packet.uri, "name": name_document(validator.net, packet.uri), "bytes": len(packet.wire),
        "hex": wire.hex(), "elements": dissect(wire), "sha256": hashlib.sha256(packet.wire).hexdigest(),
        "origin": packet.origin, "origin_means": MEANINGS.get(packet.origin, ""), "refused": packet.refusal,
        "start_ms": round((packet.began - record.began) * 1000, 2),
        "at_ms": round((packet.at - record.began) * 1000, 2), "signer": None, "chain": [],
    }  # fmt: skip
    if packet.signed_by is not None:
        signed = packet.signed_by
        document["signer"] = {
            "key": ndn.to_uri(signed.key_name), "identity": ndn.to_uri(signed.identity),
            "certificate": ndn.to_uri(signed.certificate_name), "rule": signed.rule,
        }  # fmt: skip
        chain = chain_of(validator, signed.key_name)
        document["chain"] = [_certificate(one, last=one is chain[-1]) for one in chain]
    return document


def chain_of(validator: Validator, key_name: Name) -> list[Certificate]:
    """The certificates from a key that was found good up to the anchor's; empty where one is not known any more."""
    chain: list[Certificate] = []
    while (certificate := validator.certified(key_name)) is not None and len(chain) < MAX_CHAIN:
        chain.append(certificate)
        located = split_locator(certificate.issuer_locator)
        if certificate.self_signed or located is None:
            return chain
        key_name = located.key_name
    return []


def _certificate(certificate: Certificate, *, last: bool) -> dict[str, Any]:
    return {
        "identity": ndn.to_uri(certificate.identity), "name": ndn.to_uri(certificate.name),
        "issuer": ndn.to_uri(certificate.issuer_locator), "not_before": format_time(certificate.not_before),
        "not_after": format_time(certificate.not_after),
        "key_sha256": hashlib.sha256(certificate.public_der).hexdigest(),
        "anchor": last, "bytes": len(certificate.wire),
    }  # fmt: skip
