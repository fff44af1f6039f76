"""Attacks on the packets of an object, each of them on one Data packet.

Owns: what they change, as pure functions of a packet and of what the attacker has. Must not know: where in a network
they are made (poison_kit.py), what stops them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import CONTENT_NACK, DIGEST_INFO, Data, decode_data, encode_data, encode_interest
from ndn_infer.security.crypto import Signer
from ndn_infer.wire.manifest import decode_manifest, encode_manifest
from tests.fuzz.mutator import mutate_bytes, mutate_elements
from tests.harness import NET


@dataclass(frozen=True)
class Material:
    """What an attacker has at hand: every packet of this object, of its older version and of other objects, and keys:
    one of a role that may not sign this, one of an impostor's network of the same name."""

    current: dict[Name, bytes]
    older: dict[Name, bytes]
    others: list[bytes]
    absent: bytes
    liars: list[Signer]


Outcome = list[tuple[float, bytes]]
"""What goes on instead of the packet: (seconds later, packet)."""
Attack = Callable[[random.Random, Data, Material], list[bytes]]


def forged(data: Data, content: bytes, *, signer: Signer | None = None, **changes: Any) -> bytes:
    """A packet of this name with another content, and a signature that is right for what it is."""
    fields: dict[str, Any] = {"freshness_ms": data.freshness_ms, "final_block": data.final_block}
    fields.update({"content_type": data.content_type, **changes})
    make = encode_data if signer is None else signer.sign_data
    try:
        return make(data.name, content, **fields)
    except BadPacket:  # too large
        return encode_data(data.name, content[:4000])


def flip(wire: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(wire)
    changed[at] ^= 1 << bit
    return bytes(changed)


def _flip(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [flip(data.wire, rng.randrange(len(data.wire)), rng.randrange(8))]


def _flip_content(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    if not data.content:
        return _flip(rng, data, has)
    return [forged(data, flip(data.content, rng.randrange(len(data.content)), rng.randrange(8)))]


def _truncate(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [data.wire[: rng.randrange(1, len(data.wire))]]


def _shorten(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """Cut the content; the packet is in order otherwise."""
    return [forged(data, data.content[: rng.randrange(len(data.content) + 1)])]


def _extend(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [data.wire + rng.randbytes(rng.randint(1, 20)) if rng.random() < 0.5 else forged(data, data.content + b"x")]


def _twice(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [data.wire, data.wire]


def _sibling(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [rng.choice(list(has.current.values()))]


def _swap(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """Another segment's content under this name."""
    return [forged(data, decode_data(rng.choice(list(has.current.values()))).content)]


def _older(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [has.older.get(data.name, data.wire)]


def _older_renamed(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    old = has.older.get(data.name)
    return [data.wire if old is None else forged(data, decode_data(old).content)]


def _other_object(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [rng.choice(has.others)]


def _other_renamed(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, decode_data(rng.choice(has.others)).content)]


def _absent(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """The producer's own word of long ago that there is no such object."""
    return [has.absent if METADATA in data.name else data.wire]


def _nack_type(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, b"", content_type=CONTENT_NACK, signer=rng.choice([None, *has.liars]))]


def _random_content(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, rng.randbytes(len(data.content)))]


def _wrong_key(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [forged(data, rng.randbytes(len(data.content)), signer=rng.choice(has.liars))]


def _right_name_wrong_key(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """Another content signed by another key under the locator of the right one."""
    liar = replace(rng.choice(has.liars), info=data.signature_info)
    return [forged(data, data.content[::-1], signer=liar)]


def _unsigned(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [encode_data(data.name, data.content[::-1], info=DIGEST_INFO, final_block=data.final_block)]


def _end_moved(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    final = ndn.segment(rng.choice((0, 1, 2, 1 << 20, (1 << 64) - 1)))
    return [forged(data, data.content, final_block=final, signer=rng.choice([None, *has.liars]))]


def _manifest_lie(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """A manifest that says something else: sizes, counts, digests, names; by a key that may not say so."""
    if METADATA not in data.name:
        return _swap(rng, data, has)
    try:
        manifest = decode_manifest(data)
    except BadPacket:
        return _random_content(rng, data, has)
    lies: list[dict[str, Any]] = [
        {"size": rng.choice((0, 1, manifest.size + 1, 1 << 40))},
        {"segments": rng.choice((1, manifest.segments + 1, 50_000))},
        {"digests": rng.randbytes(len(manifest.digests)), "inline": None},
        {"manifest_digests": rng.randbytes(32), "digests": b"", "inline": None},
        {"inline": rng.randbytes(min(manifest.size, 4000))},
        {"name": ndn.prefix(manifest.name, -1) + ndn.version(7)},
        {"name": NET + ndn.generic("elsewhere") + ndn.version(7)},
    ]
    lie = replace(manifest, **rng.choice(lies))
    return [forged(data, encode_manifest(lie), signer=rng.choice([None, *has.liars]))]


def _mutate(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [mutate_bytes(rng, data.wire, has.others)[: tlv.MAX_PACKET_BYTES] or b"\0"]


def _mutate_element(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [mutate_elements(rng, data.wire, has.others)[: tlv.MAX_PACKET_BYTES] or b"\0"]


def _drop(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return []


def _noise(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [rng.randbytes(rng.randint(1, 200))]


def _refuse(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    """A Nack in the place of Data."""
    discovery = METADATA in data.name
    name = ndn.prefix(data.name, -2) if discovery else data.name
    wire, _ = encode_interest(name, nonce=rng.randbytes(4), can_be_prefix=discovery, must_be_fresh=discovery)
    reason = rng.choice((0, lp.REASON_CONGESTION, lp.REASON_DUPLICATE, lp.REASON_NO_ROUTE))
    return [lp.encode_lp(lp.LpPacket(wire, nack_reason=reason))]


def _mark(rng: random.Random, data: Data, has: Material) -> list[bytes]:
    return [lp.encode_lp(lp.LpPacket(data.wire, congestion_mark=1))]


ATTACKS: Final[dict[str, Attack]] = {
    "flip": _flip, "flip-content": _flip_content, "truncate": _truncate, "shorten": _shorten, "extend": _extend,
    "duplicate": _twice, "sibling": _sibling, "swap": _swap, "older": _older, "older-renamed": _older_renamed,
    "other-object": _other_object, "other-renamed": _other_renamed, "absent": _absent, "nack-type": _nack_type,
    "random-content": _random_content, "wrong-key": _wrong_key, "right-locator": _right_name_wrong_key,
    "unsigned": _unsigned, "end-moved": _end_moved, "manifest-lie": _manifest_lie, "mutate": _mutate,
    "mutate-element": _mutate_element, "drop": _drop, "noise": _noise, "refuse": _refuse, "mark": _mark,
}  # fmt: skip
"""Beside these the router holds packets back (reorder), and drops, alters and refuses Interests."""
"""What the right key did sign, once. Nobody can tell; the fetcher may be sent after an object that is gone."""


def attack(kind: str, rng: random.Random, wire: bytes, has: Material) -> Outcome:
    if kind == "reorder":
        return [(rng.choice((0.001, 0.05, 0.5, 2.0)), wire)]
    return [(0.0, changed) for changed in ATTACKS[kind](rng, decode_data(wire), has)]


KINDS: Final = (*ATTACKS, "reorder")
