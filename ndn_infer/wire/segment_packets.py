"""The Data packets of an object's segments.

Owns: their bytes (Data with DigestSha256; NDN packet format v0.3). Pure, and on the way of every KV block that is
published: what all segments of an object have in common is put together once, each content is copied once and hashed
twice, for its signature and for the manifest. Must not know: manifests, versions, stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import CONTENT_BLOB, DIGEST_INFO, encode_metainfo, encode_signature_info
from ndn_infer.ndn.tlv import encode_number

_INFO: Final = encode_signature_info(DIGEST_INFO)
_INFO_AND_VALUE: Final = _INFO + b"\x17\x20"
_VALUE_BYTES: Final = 2 + 32


def segment_packets(
    name: Name, content: bytes | memoryview, segment_bytes: int, *, freshness_ms: int
) -> Iterator[tuple[Name, bytes, bytes]]:
    """(name, packet, SHA-256 of the packet) of `name`/seg=0 and so on, `segment_bytes` of the content in each, at least
    one. The same packets as `packet.encode_data` makes. Raises BadPacket when they would exceed 8,800 bytes."""
    view = memoryview(content)
    count = max(1, -(-len(view) // segment_bytes))
    metainfo = encode_metainfo(CONTENT_BLOB, freshness_ms, ndn.segment(count - 1))
    known, head, outer, after = (-1, -1), b"", b"", b""
    for number in range(count):
        component = ndn.segment(number)
        piece = view[number * segment_bytes : (number + 1) * segment_bytes]
        if known != (len(component), len(piece)):
            known = (len(component), len(piece))
            head = encode_number(tlv.NAME) + encode_number(len(name) + len(component)) + name
            after = metainfo + b"\x15" + encode_number(len(piece))
            size = len(head) + len(component) + len(after) + len(piece) + len(_INFO) + _VALUE_BYTES
            outer = encode_number(tlv.DATA) + encode_number(size)
            if len(outer) + size > tlv.MAX_PACKET_BYTES:
                raise BadPacket(f"a Data packet of {len(outer) + size} bytes exceeds {tlv.MAX_PACKET_BYTES}")
        before = head + component + after
        signed = sha256(before)
        signed.update(piece)
        signed.update(_INFO)
        wire = b"".join((outer, before, piece, _INFO_AND_VALUE, signed.digest()))
        yield name + component, wire, sha256(wire).digest()
