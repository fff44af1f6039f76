"""Hostile bytes against everything that reads packets: only BadPacket comes out, and what decodes makes sense again.

`check(wire)` raises AssertionError for nonsense and lets out whatever a decoder raises beside BadPacket. Owns: what
"consistent" means for each codec. Must not know: where the bytes are from.
"""

from __future__ import annotations

import random
from dataclasses import replace

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core import parsing
from ndn_infer.forwarder.core.announcement import decode_announcement
from ndn_infer.forwarder.core.rewriting import with_less_hops, with_nonce, without_hints
from ndn_infer.forwarder.management.encoding import decode_face_filter, decode_parameters
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.transport.link.registration import decode_response


def check(wire: bytes) -> bool:
    """Whether the bytes were a packet (of any kind, to any of the codecs)."""
    _check_framer(wire)
    link = _check_link(wire)
    inner = link.fragment if link is not None else wire
    found = _check_interest(inner) | _check_data(inner)
    _check_management(inner)
    return found or link is not None


def _check_framer(wire: bytes) -> None:
    """How a stream is cut does not matter."""
    whole = _frames([wire])
    cut = len(wire) // 3
    assert _frames([wire[:cut], wire[cut : cut + 1], wire[cut + 1 :]]) == whole
    if len(wire) < 40:
        assert _frames([bytes((byte,)) for byte in wire]) == whole


def _frames(chunks: list[bytes]) -> tuple[list[bytes], bool]:
    """The packets of a stream, and whether it was refused after them."""
    framer, found = tlv.Framer(), list[bytes]()
    for chunk in chunks:
        found += framer.feed(chunk)
        if framer.fault is not None:
            return found, True
    return found, False


def _check_link(wire: bytes) -> lp.LpPacket | None:
    try:
        link = lp.decode_lp(wire)
    except BadPacket:
        return None
    assert lp.decode_lp(lp.encode_lp(link)) == link, "an LpPacket changes when it is encoded again"
    return link


# ---------------------------------------------------------------- Interest


def _check_interest(wire: bytes) -> bool:
    try:
        interest = packet.decode_interest(wire)
    except BadPacket:
        interest = None
    try:
        parsed = parsing.parse_interest(wire)
    except BadPacket:
        parsed = None
    if interest is not None:
        _reencode_interest(interest)
        _check_name(interest.name)
        interest.parameters_digest_matches()
    if parsed is not None:
        assert parsed.ends == ndn.prefix_ends(parsed.name)
        _check_rewriting(wire, parsed)
    if interest is not None and parsed is not None:
        mine = (interest.name, interest.can_be_prefix, interest.must_be_fresh, interest.hints, interest.nonce or b"")
        assert mine == (parsed.name, parsed.can_be_prefix, parsed.must_be_fresh, parsed.hints, parsed.nonce)
        assert min(interest.lifetime_ms, parsing.MAX_LIFETIME_MS) == parsed.lifetime_ms
        hop_limit = wire[parsed.hop_limit_at] if parsed.hop_limit_at else None
        assert hop_limit == interest.hop_limit, "the two decoders see different HopLimits"
    return interest is not None or parsed is not None


def _reencode_interest(interest: packet.Interest) -> None:
    fields = (
        "can_be_prefix", "must_be_fresh", "hints", "lifetime_ms", "hop_limit", "parameters",
    )  # fmt: skip
    options = {field: getattr(interest, field) for field in fields}
    try:
        wire, name = packet.encode_interest(interest.name, nonce=interest.nonce or bytes(4), **options)
    except BadPacket:
        return  # too large with what was added to it
    again = packet.decode_interest(wire)
    assert again.name == name and name.startswith(interest.name)
    assert all(getattr(again, field) == options[field] for field in fields), "an Interest changes when encoded again"
    assert interest.parameters is None or again.parameters_digest_matches()


def _check_rewriting(wire: bytes, parsed: parsing.ParsedInterest) -> None:
    """What a forwarder changes in an Interest changes nothing else."""
    if not parsed.nonce:
        try:
            given = parsing.parse_interest(with_nonce(wire, parsed.nonce_at, b"\1\2\3\4"))
        except BadPacket:
            assert len(wire) > tlv.MAX_PACKET_BYTES - 16
            return
        assert given.nonce == b"\1\2\3\4" and _without(given) == _without(parsed)
    if parsed.hints:
        stripped = parsing.parse_interest(without_hints(wire, parsed))
        assert not stripped.hints and stripped.nonce == parsed.nonce
        assert _without(stripped) == _without(parsed)._replace(hints=())
    if parsed.hop_limit_at and wire[parsed.hop_limit_at]:
        less = with_less_hops(wire, parsed.hop_limit_at)
        assert parsing.parse_interest(less) == parsed and less[parsed.hop_limit_at] == wire[parsed.hop_limit_at] - 1


def _without(parsed: parsing.ParsedInterest) -> parsing.ParsedInterest:
    """Without nonce and offsets."""
    return parsed._replace(nonce=b"", hop_limit_at=bool(parsed.hop_limit_at), nonce_at=0, hints_span=(0, 0))


# ---------------------------------------------------------------- Data


def _check_data(wire: bytes) -> bool:
    try:
        data = packet.decode_data(wire)
    except BadPacket:
        data = None
    try:
        parsed = parsing.parse_data(wire)
    except BadPacket:
        parsed = None
    if data is not None:
        _reencode_data(data)
        _check_name(data.name)
        assert data.wire == wire and len(data.implicit_digest()) == 32
    if data is not None and parsed is not None:
        assert parsed[:2] == (data.name, data.freshness_ms), "the two decoders see different Data"
    return data is not None or parsed is not None


def _reencode_data(data: packet.Data) -> None:
    try:
        wire = packet.encode_data(
            data.name, data.content, freshness_ms=data.freshness_ms, final_block=data.final_block,
            content_type=data.content_type, info=data.signature_info, signer=lambda portion: data.signature,
        )  # fmt: skip
    except BadPacket:
        return
    again = packet.decode_data(wire)
    assert replace(again.signature_info, raw=b"") == replace(data.signature_info, raw=b"")
    fields = ("name", "content", "content_type", "freshness_ms", "final_block", "signature")
    assert all(getattr(again, field) == getattr(data, field) for field in fields), "Data changes when encoded again"


def _check_name(name: bytes) -> None:
    parts = ndn.components(name)
    assert b"".join(parts) == name
    if len(parts) < 50:
        assert ndn.from_uri(ndn.to_uri(name)) == name, "a name changes on its way through a URI"


# ---------------------------------------------------------------- management


def _check_management(wire: bytes) -> None:
    """Bytes from anywhere in the packet, where management looks for its own TLVs."""
    for at in _places(wire):
        piece = wire[at:]
        for decode in (decode_parameters, decode_face_filter, decode_response, decode_announcement):
            try:
                found = decode(piece)
            except BadPacket:
                continue
            if decode is decode_parameters:
                assert decode_parameters(found.encode()) == found, "ControlParameters change when encoded again"


def _places(wire: bytes) -> list[int]:
    """Offsets at which one of these TLVs may begin."""
    places = [wire.find(bytes((kind,))) for kind in (0x68, 0x96, 0x65)]
    return [at for at in places if at >= 0]


def check_cuts(wire: bytes, rng: random.Random) -> None:
    """Every beginning of a packet, for the short ones; some for others."""
    ends = range(len(wire)) if len(wire) < 60 else rng.sample(range(len(wire)), 20)
    for end in ends:
        check(wire[:end])
