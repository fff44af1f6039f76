"""Asking again, past every cache: when what came under a name cannot be believed.

Owns: the names of such questions, and the answer that carries the packet asked for. A cache on the way that holds a bad
packet would give it again and again, for as long as whoever put it there pleased; and what is signed one by one
(discovery, live segments, certificates) has no digest that is known beforehand. So the question gets a name that
nobody asked before,

    <name but its last component>/32=again/<nonce>/<last component>

and the Data of that name holds, as its content, the whole packet that would have answered `<name>`. Only that inner
packet is judged, as if it had come by itself. An "absent" in it repeats the nonce, so that an old one cannot be played
back. Must not know: who asks, who is believed.
"""

from __future__ import annotations

from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data, encode_data

AGAIN: Final = ndn.keyword("again")
NONCE_BYTES: Final = 8


def question(name: Name, nonce: bytes) -> Name:
    """The name under which to ask for `name` past caches. `nonce` has NONCE_BYTES random bytes."""
    last = ndn.components(name)[-1]
    return name[: -len(last)] + AGAIN + ndn.generic(nonce) + last


def parse(name: Name) -> tuple[Name, bytes] | None:
    """(the name that is asked for, nonce) of a question; None for another name."""
    if AGAIN not in name:
        return None
    parts = ndn.components(name)
    if len(parts) < 4 or parts[-3] != AGAIN or ndn.component_type(parts[-2]) != ndn.GENERIC:
        return None
    nonce = ndn.component_value(parts[-2])
    return (b"".join(parts[:-3]) + parts[-1], nonce) if len(nonce) == NONCE_BYTES else None


def wrap(asked: Name, wire: bytes) -> bytes:
    """The answer to the question `asked`: a packet around the packet `wire`, kept by no cache for later.

    Raises BadPacket when both together exceed a packet.
    """
    return encode_data(asked, wire)


def unwrap(outer: bytes) -> bytes:
    """The packet inside an answer; nothing is believed of the outer one. Raises BadPacket."""
    return decode_data(outer).content


def unwrap_named(outer: bytes, name: Name, *, prefix: bool = False) -> bytes:
    """`unwrap`, if the inner packet has this name (with `prefix`: one below it). Raises BadPacket."""
    inner = unwrap(outer)
    found = decode_data(inner).name
    if found != name and not (prefix and found.startswith(name)):
        raise BadPacket(f"asked again for {ndn.to_uri(name)}, got {ndn.to_uri(found)}")
    return inner
