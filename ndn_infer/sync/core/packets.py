"""Names and packets of a sync group: what is sent, and what an Interest or Data of it means.

Owns: naming (State Vector Sync version 3, section 2, and its publication layer of 2026-07-24; the older names of that
of 2025-01-04, which NDNts speaks), encapsulation, and the one name of our own: `<member>/<group>/32=state/<buckets>`, a
member's state for whoever asks for it. Must not know:
whose signatures count, when anything is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Component, Name
from ndn_infer.ndn.packet import (
    Data,
    SignatureInfo,
    decode_data,
    encode_data,
    encode_interest,
    encode_metainfo,
    encode_signature_info,
)
from ndn_infer.ndn.tlv import encode_tlv, read_header
from ndn_infer.sync.core.state import StateMessage
from ndn_infer.sync.core.summary import ALL_BUCKETS, Summary, encode_summary, summary_in

VERSION_3: Final = ndn.version(3)
MAPPING: Final = ndn.generic("MAPPING")
STATE: Final = ndn.keyword("state")
ENCAPSULATED: Final = 6
"""ContentType of Data whose content is a Data packet."""
SIGNATURE_NULL: Final = 200
"""SignatureType of a packet that leaves it to the one around it."""
SEGMENT_BYTES: Final = 7600
"""Of content in one packet: with two names and two signatures it stays below 8,800 bytes."""
INTEREST_LIFETIME_MS: Final = 1000
PUBLICATION_FRESHNESS_MS: Final = 60_000
STATE_FRESHNESS_MS: Final = 500


class Signs(Protocol):
    """A key of ours (security.crypto.Signer)."""

    @property
    def info(self) -> SignatureInfo: ...

    @property
    def sign(self) -> Callable[[bytes], bytes]: ...


def vector_name(group: Name) -> Name:
    """Of the State Vector Data; Sync Interests lie below it."""
    return group + VERSION_3


def start_name(member: Name, group: Name, boot: int) -> Name:
    """Below it lies what a member has published since it started."""
    return member + group + ndn.timestamp(boot)


def publication_name(member: Name, group: Name, boot: int, sequence: int) -> Name:
    return start_name(member, group, boot) + ndn.sequence(sequence)


def older_name(member: Name, group: Name, sequence: int) -> Name:
    """Of a publication, in the revision of 2025-01-04: of whichever start is the newest."""
    return member + group + _older_number(sequence)


def older_mapping_name(member: Name, group: Name, low: int, high: int) -> Name:
    return member + group + MAPPING + _older_number(low) + _older_number(high)


def _older_number(number: int) -> Component:
    return ndn.generic(tlv.encode_nonneg(number))


def mapping_name(member: Name, group: Name, boot: int, low: int, high: int) -> Name:
    return start_name(member, group, boot) + MAPPING + ndn.sequence(low) + ndn.sequence(high)


def state_name(member: Name, group: Name, buckets: int = 0) -> Name:
    return member + group + STATE + ndn.generic(buckets.to_bytes(8, "big"))


# ---------------------------------------------------------------- state vectors


def sign_message(name: Name, message: StateMessage, signer: Signs, freshness_ms: int = 0) -> bytes:
    """A State Vector Data. Raises BadPacket when it is larger than a packet."""
    metainfo = encode_metainfo(0, freshness_ms, None)
    if message.summary is not None:
        metainfo = encode_tlv(0x14, metainfo[2:] + encode_summary(message.summary))
    portion = b"".join(
        (ndn.encode_name(name), metainfo, encode_tlv(0x15, message.content), encode_signature_info(signer.info))
    )
    return encode_tlv(tlv.DATA, portion + encode_tlv(0x17, signer.sign(portion)))


def sync_interest(group: Name, vector_data: bytes) -> bytes:
    """Raises BadPacket when it is larger than a packet."""
    wire, _ = encode_interest(
        vector_name(group),
        nonce=os.urandom(4),
        can_be_prefix=True,
        must_be_fresh=True,
        lifetime_ms=INTEREST_LIFETIME_MS,
        parameters=vector_data,
    )
    return wire


def vector_data(group: Name, parameters: bytes | None) -> Data:
    """The State Vector Data in the parameters of a Sync Interest, not verified. Raises BadPacket."""
    if not parameters:
        raise BadPacket("a Sync Interest has parameters")
    kind, _, end = read_header(parameters, 0, len(parameters))
    if kind != tlv.DATA:
        raise BadPacket("the parameters of a Sync Interest are a Data packet")
    data = decode_data(parameters[:end])
    if data.name != vector_name(group):
        raise BadPacket(f"a state vector of another group: {ndn.to_uri(data.name)}")
    return data


def summary_of(data: Data) -> Summary | None:
    """The summary in the MetaInfo of a *verified* State Vector Data. Raises BadPacket."""
    portion = data.signed_portion
    _, _, offset = read_header(portion, 0, len(portion))
    kind, value, end = read_header(portion, offset, len(portion))
    return summary_in(portion[value:end]) if kind == 0x14 else None


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class SyncQuery:
    """An Interest below `<member>/<group>`: for a publication (`segment` of it, None for whichever is first), for the
    names from `sequence` to `high`, or for the state (`buckets` listed whole). `older`: by an older name, which says no
    `boot`."""

    boot: int = 0
    sequence: int = 0
    high: int | None = None
    segment: int | None = None
    buckets: int | None = None
    older: bool = False


def parse_asked(rest: Name) -> SyncQuery | None:
    """What follows `<member>/<group>` in a name; None for names that mean nothing here."""
    try:
        parts = ndn.components(rest)
        if len(parts) == 2 and parts[0] == STATE and len(bits := ndn.component_value(parts[1])) == 8:
            return SyncQuery(buckets=int.from_bytes(bits, "big") & ALL_BUCKETS)
        if not parts:
            return None
        if ndn.component_type(parts[0]) == ndn.GENERIC:
            return _parse_older(parts)
        boot, parts = ndn.component_number(parts[0], ndn.TIMESTAMP), parts[1:]
        if len(parts) == 3 and parts[0] == MAPPING:
            low, high = (ndn.component_number(part, ndn.SEQUENCE) for part in parts[1:])
            return SyncQuery(boot, low, high=high)
        if len(parts) == 1:
            return SyncQuery(boot, ndn.component_number(parts[0], ndn.SEQUENCE))
        if len(parts) == 3 and parts[1] == ndn.version(0):
            number = ndn.component_number(parts[0], ndn.SEQUENCE)
            return SyncQuery(boot, number, segment=ndn.component_number(parts[2], ndn.SEGMENT))
    except BadPacket:
        pass
    return None


def _parse_older(parts: list[Component]) -> SyncQuery | None:
    """Raises BadPacket."""
    if len(parts) == 3 and parts[0] == MAPPING:
        low, high = (ndn.component_number(part, ndn.GENERIC) for part in parts[1:])
        return SyncQuery(sequence=low, high=high, older=True)
    number = ndn.component_number(parts[0], ndn.GENERIC)
    if len(parts) == 1:
        return SyncQuery(sequence=number, older=True)
    if len(parts) == 3 and parts[1] == ndn.version(0):
        return SyncQuery(sequence=number, segment=ndn.component_number(parts[2], ndn.SEGMENT), older=True)
    return None


# ---------------------------------------------------------------- encapsulation


class Sealed(NamedTuple):
    """What a verified outer packet held: the application's name of the whole, one piece of its content, the number
    of the last segment (None: it is whole), and the inner packet itself."""

    name: Name
    content: bytes
    last: int | None
    inner: Data


def encapsulate(outer: Name, inner: Name, content: bytes, signer: Signs, inner_signer: Signs | None) -> list[bytes]:
    """The packets of one publication: one when it fits, else segments below `outer`.

    Without `inner_signer` the inner packets have a digest only, and the outer signature speaks for them. Raises
    BadPacket when a name is so long that a packet becomes too large.
    """
    pieces = [content[at : at + SEGMENT_BYTES] for at in range(0, len(content), SEGMENT_BYTES)] or [b""]
    suffixes = [ndn.version(0) + ndn.segment(number) for number in range(len(pieces))] if len(pieces) > 1 else [b""]
    final: Component | None = ndn.segment(len(pieces) - 1) if len(pieces) > 1 else None
    made = []
    for piece, suffix in zip(pieces, suffixes, strict=True):
        if inner_signer is None:
            wire = encode_data(inner + suffix, piece, final_block=final)
        else:
            wire = encode_data(
                inner + suffix, piece, final_block=final, info=inner_signer.info, signer=inner_signer.sign
            )  # fmt: skip
        made.append(
            encode_data(
                outer + suffix,
                wire,
                final_block=final,
                content_type=ENCAPSULATED,
                freshness_ms=PUBLICATION_FRESHNESS_MS,
                info=signer.info,
                signer=signer.sign,
            )  # fmt: skip
        )
    return made


def renamed(wire: bytes, publication: Name, asked_for: Name, signer: Signs) -> bytes:
    """A packet of a publication of ours under another name of the publication, signed again."""
    outer = decode_data(wire)
    return encode_data(
        asked_for + outer.name[len(publication) :], outer.content, final_block=outer.final_block,
        content_type=ENCAPSULATED, freshness_ms=PUBLICATION_FRESHNESS_MS, info=signer.info, signer=signer.sign,
    )  # fmt: skip


def decapsulate(outer: Data, publication: Name) -> Sealed:
    """What a *verified* packet of `publication` holds. Raises BadPacket."""
    suffix = outer.name[len(publication) :]
    if outer.content_type != ENCAPSULATED or not outer.name.startswith(publication):
        raise BadPacket(f"{ndn.to_uri(outer.name)} encapsulates no Data packet")
    inner = decode_data(outer.content)
    if not suffix:
        if outer.final_block is not None:
            raise BadPacket("a publication of one packet has no FinalBlockId")
        return Sealed(inner.name, inner.content, None, inner)
    if not inner.name.endswith(suffix) or outer.final_block is None:
        raise BadPacket(f"{ndn.to_uri(outer.name)} encapsulates another segment")
    last = ndn.component_number(outer.final_block, ndn.SEGMENT)
    return Sealed(inner.name[: -len(suffix)], inner.content, last, inner)
