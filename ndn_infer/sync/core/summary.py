"""The summary of a state that does not fit a packet.

The specification says nothing about vectors that are larger than a packet, and in its rules a name that is missing is a
member at 0. So where we send a part of our state, the packet says beside it what it is silent about: members fall into
64 buckets by a digest of their name, each bucket has a digest of its entries, and a bit says of each whether all its
entries are in the vector. Who has other digests knows where the difference lies, whoever lacks what.

Owns: buckets, their digests, the element that carries them. It stands in the MetaInfo of the State Vector Data as an
application's own element (ndn-cxx: AppMetaInfo, types 128 to 252): signed with it, ignored by those who do not know it.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final, NamedTuple

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.sync.core.vector import Entry

BUCKETS: Final = 64
ALL_BUCKETS: Final = (1 << BUCKETS) - 1
SUMMARY: Final = 240
"""An even number from 128 to 252: not critical, and free for applications."""
_FORM: Final = struct.Struct(f">Q{BUCKETS}I")
SUMMARY_BYTES: Final = 4 + _FORM.size

EMPTY: Final = (0,) * BUCKETS


class Summary(NamedTuple):
    """`covered`: a bit for each bucket whose entries are all in the vector. `digests`: of all that the sender knows."""

    covered: int
    digests: tuple[int, ...]


def bucket_of(name: Name) -> int:
    return blake2b(name, digest_size=1).digest()[0] % BUCKETS


def digest_of(entry: Entry) -> int:
    """32 bits of one entry; a bucket's digest is all of them, exclusive-or."""
    numbers = entry.boot.to_bytes(8, "big") + entry.sequence.to_bytes(8, "big")
    return int.from_bytes(blake2b(numbers + entry.name, digest_size=4).digest(), "big")


def encode_summary(summary: Summary) -> bytes:
    return tlv.encode_tlv(SUMMARY, _FORM.pack(summary.covered, *summary.digests))


def decode_summary(value: bytes) -> Summary:
    """Of the element's value. Raises BadPacket."""
    if len(value) != _FORM.size:
        raise BadPacket(f"a summary of {len(value)} bytes")
    covered, *digests = _FORM.unpack(value)
    return Summary(covered, tuple(digests))


def summary_in(metainfo: bytes) -> Summary | None:
    """The summary among the elements of a MetaInfo's value; None when there is none. Raises BadPacket."""
    for kind, start, stop in tlv.iterate(metainfo):
        if kind == SUMMARY:
            return decode_summary(metainfo[start:stop])
    return None


def buckets_in(bits: int) -> list[int]:
    """The numbers of the bits that are set, rising."""
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found
