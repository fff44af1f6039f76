"""Objects of stock tools: RDR metadata that names a versioned object, and segments signed one by one.

Owns: fetching what `ndnserve`, `ndnd put` and NDNts publish. Their metadata holds the versioned name and no digests,
and their keys are of no network of ours: **nothing here is verified**, but the names, the order of the segments, and
the digest of those that are signed with DigestSha256 (integrity, not authorship). Nothing that is fetched here may be
used where fetch.py would be. Must not know: trust schemas, stores.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, FetchIncomplete, Nacked, Timeout
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import SIGNATURE_DIGEST_SHA256, Data, digest_signer
from ndn_infer.together import together
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, MAX_SEGMENTS

WINDOW: Final = 32
ATTEMPTS: Final = 4
LIFETIME_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """`claims`: key locators that its packets name (nobody checked these signatures); `digests`: how many segments are
    signed with DigestSha256, which was checked."""

    name: Name
    content: bytes
    segments: int
    digests: int
    claims: tuple[Name, ...]


async def fetch_foreign(endpoint: Endpoint, base: Name, *, version: int | None = None) -> ForeignObject:
    """The newest version of the object at `base`, or exactly `version`, unverified (see above).

    Raises Timeout, Nacked, FetchIncomplete, BadPacket for what is no such object.
    """
    versioned = base + ndn.version(version) if version is not None else await _newest(endpoint, base)
    first = await _segment(endpoint, versioned, 0)
    count = _count(first)
    room = asyncio.Semaphore(WINDOW)
    size = len(first.content)

    async def one(number: int) -> Data:
        nonlocal size
        async with room:
            data = await _segment(endpoint, versioned, number)
        size += len(data.content)
        if size > MAX_OBJECT_BYTES:
            raise BadPacket(f"{ndn.to_uri(versioned)} has more than {MAX_OBJECT_BYTES} bytes")
        return data

    packets = [first, *await together(one(number) for number in range(1, count))]
    claims = {data.signature_info.key_locator: None for data in packets if data.signature_info.key_locator is not None}
    digests = sum(data.signature_info.type == SIGNATURE_DIGEST_SHA256 for data in packets)
    return ForeignObject(versioned, b"".join(data.content for data in packets), count, digests, tuple(claims))


async def _newest(endpoint: Endpoint, base: Name) -> Name:
    """The versioned name in the metadata packet: its content begins with it (RDR)."""
    data = await _express(endpoint, base + METADATA, discover=True)
    kind, value, after = tlv.read_header(data.content, 0, len(data.content))
    if kind != tlv.NAME:
        raise BadPacket(f"the metadata of {ndn.to_uri(base)} does not begin with a name")
    name = ndn.decode_name(data.content, value, after)
    if ndn.split_version(name)[0] != base or name == base:
        raise BadPacket(f"the metadata of {ndn.to_uri(base)} names {ndn.to_uri(name)}")
    return name


def _count(first: Data) -> int:
    if first.final_block is None:
        raise BadPacket(f"{ndn.to_uri(first.name)} does not say which segment is the last")
    count = ndn.component_number(first.final_block, ndn.SEGMENT) + 1
    if count > MAX_SEGMENTS:
        raise BadPacket(f"{ndn.to_uri(first.name)} is one of {count} segments, more than {MAX_SEGMENTS}")
    return count


async def _segment(endpoint: Endpoint, versioned: Name, number: int) -> Data:
    try:
        return await _express(endpoint, versioned + ndn.segment(number))
    except (Timeout, Nacked) as error:
        raise FetchIncomplete(f"segment {number} of {ndn.to_uri(versioned)}: {error}", missing=(number,)) from error


async def _express(endpoint: Endpoint, name: Name, *, discover: bool = False) -> Data:
    for attempt in range(ATTEMPTS):
        try:
            data, _ = await endpoint.express(
                name, can_be_prefix=discover, must_be_fresh=discover, lifetime_ms=LIFETIME_MS
            )
            break
        except Timeout:
            if attempt == ATTEMPTS - 1:
                raise
    if data.signature_info.type == SIGNATURE_DIGEST_SHA256 and digest_signer(data.signed_portion) != data.signature:
        raise BadPacket(f"{ndn.to_uri(data.name)} was altered: its digest is another one")
    return data
