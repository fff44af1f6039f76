"""The link of a step: the same as a statement for tools that know no predicates (in-toto specification 1.0).

Owns: that form: a step has materials and products by name and digest. Must not know: what any statement says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from ndn_infer.errors import BadRecord
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.dsse import DsseEnvelope
from ndn_infer.evidence.plain_json import Json, canonical, parse_canonical
from ndn_infer.evidence.statement import Resource, Statement
from ndn_infer.security.crypto import Signer


def link(function: str, materials: Iterable[Resource], product: Resource) -> bytes:
    """What stock in-toto-verify reads. Materials whose names are digests of something else than their bytes (KV and
    token blocks) have none, and are left out."""
    digests = {one.uri: {"sha256": one.sha256} for one in materials if one.sha256}
    plain: dict[str, Json] = {
        "_type": "link",
        "name": function,
        "command": [],
        "materials": cast(Json, digests),
        "products": {product.uri: {"sha256": product.sha256}},
        "byproducts": {},
        "environment": {},
    }
    return canonical(plain)


def encode(said: Statement, beside: bytes, signer: Signer) -> bytes:
    """in-toto's bundle of two envelopes: the statement's and the link's."""
    envelope = dsse.sign(statement.encode(said), signer)
    return dsse.encode_bundle((envelope, dsse.sign(beside, signer)))


def decode(content: bytes | memoryview, most: int) -> tuple[Statement, DsseEnvelope, DsseEnvelope]:
    """The statement, its envelope and the link's, whose signatures are for the caller to verify. Raises BadRecord."""
    envelopes = dsse.decode_bundle(content, most)
    if len(envelopes) != 2 or any(one.payload_type != dsse.STATEMENT_TYPE for one in envelopes):
        raise BadRecord("a record is a statement and a link")
    said, beside = envelopes
    return statement.decode(said.payload, most), said, beside


def same(payload: bytes, wanted: bytes) -> bool:
    """Whether a link says what it must. Raises BadRecord for what is none."""
    return canonical(parse_canonical(payload)) == wanted
