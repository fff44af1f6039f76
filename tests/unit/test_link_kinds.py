"""Of which kind a frame on a link is: whole packets, fragments, refusals, what is none of ours."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.ndn.lp import LpPacket, encode_lp
from ndn_infer.ndn.packet import digest_signer, encode_data, encode_interest
from ndn_infer.testbed.link_kinds import OTHERS, PacketKinds

NET = ndn.from_uri("/net")
CALL = "/net/model/" + 64 * "a"
RESULT = ndn.from_uri(f"{CALL}/result/generate/{64 * 'b'}/v=7/seg=0")
OFFER = ndn.from_uri("/net/lab/n1/decode/instance/0123456789abcdef/ask/offer/params-sha256=" + 64 * "c")


def frame(payload: bytes, options: int = 0) -> bytes:
    header = bytes((0x45 + options,)) + bytes(8) + b"\x11" + bytes(10 + 4 * options)
    return bytes(12) + b"\x08\x00" + header + struct.pack(">HHHH", 6363, 6363, 8 + len(payload), 0) + payload


def data(name: ndn.Name, size: int = 10) -> bytes:
    return encode_data(name, bytes(size), signer=digest_signer)


def test_kinds_are_told_by_packet_and_name() -> None:
    kinds = PacketKinds(NET)
    assert kinds.kind_of(frame(data(RESULT))) == "Data result"
    assert kinds.kind_of(frame(encode_lp(LpPacket(data(OFFER))), options=1)) == "Data question_to_an_instance offer"
    asked, _ = encode_interest(RESULT, nonce=b"abcd")
    assert kinds.kind_of(frame(asked)) == "Interest result"
    assert kinds.kind_of(frame(encode_lp(LpPacket(asked, nack_reason=150)))) == "Nack result"
    assert kinds.kind_of(frame(b"hello")) == kinds.kind_of(bytes(60)) == kinds.kind_of(b"") == OTHERS


def test_fragments_are_of_the_kind_of_their_packet() -> None:
    kinds, wire = PacketKinds(NET), data(RESULT, 3000)
    pieces = [wire[:1400], wire[1400:2800], wire[2800:]]
    found = [
        kinds.kind_of(frame(encode_lp(LpPacket(piece, struct.pack(">Q", 90 + index), index, len(pieces)))))
        for index, piece in enumerate(pieces)
    ]
    assert found == ["Data result"] * 3
    assert kinds.kind_of(frame(encode_lp(LpPacket(pieces[1], struct.pack(">Q", 7), 1, 3)))) == OTHERS


@given(st.binary(max_size=80))
def test_nothing_on_a_link_disturbs_it(noise: bytes) -> None:
    kinds = PacketKinds(NET)
    assert isinstance(kinds.kind_of(noise), str) and isinstance(kinds.kind_of(frame(noise)), str)
