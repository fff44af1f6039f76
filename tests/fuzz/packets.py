"""Valid packets of every kind that a forwarder meets: fixed ones, and random ones that are well formed.

Owns: the corpus of the fuzzers and the generator, both management command formats included. Uses no clock: the same
random numbers give the same packets. Must not know: mutations.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import fields
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.ndn import lp, packet
from ndn_infer.ndn.tlv import encode_nonneg, encode_tlv

DIGEST: Final = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=b"12345678", time_ms=1)
WALL_US: Final = 1_700_000_000_000_000
ODD_NUMBERS: Final = (0, 1, 2, 3, 127, 128, 255, 256, 65535, 65536, 1 << 31, 1 << 32, (1 << 53) + 1, (1 << 64) - 1)
URIS: Final = (
    "udp4://127.0.0.1:9", "tcp4://127.0.0.1:9", "udp6://[::1]:9", "udp4://0.0.0.0:0", "fd://1", "udp4://", "\udcff",
    "udp4://127.0.0.1:99999", "udp://localhost:6363", "ether://[01:00:5e:00:17:aa]", "tcp://[", "ws://x", "a" * 300,
)  # fmt: skip
STRATEGIES: Final = (
    "/localhost/nfd/strategy/multicast", "/localhost/nfd/strategy/best-route/v=5", "/localhost/nfd/strategy/none",
    "/localhost/nfd/strategy/asf/v=5/probing-interval~5000", "/localhost/nfd/strategy/asf/v=5/max-timeouts~-1",
    "/localhost/nfd/strategy/best-route/v=5/x~1", "/localhost/nfd/strategy/asf/v=5/probing-interval~", "/",
)  # fmt: skip
VERBS: Final[dict[tuple[str, str], frozenset[str]]] = {
    key: frozenset(wanted.split())
    for key, wanted in {
        ("rib", "register"): "name origin cost flags expiration_ms",
        ("rib", "unregister"): "name origin",
        ("rib", "announce"): "",
        ("fib", "add-nexthop"): "name cost",
        ("fib", "remove-nexthop"): "name",
        ("faces", "create"): "uri persistency flags mask base_mark_interval default_threshold mtu",
        ("faces", "update"): "flags mask base_mark_interval default_threshold",
        ("faces", "destroy"): "face_id",
        ("cs", "config"): "capacity flags mask",
        ("cs", "erase"): "name count",
        ("strategy-choice", "set"): "name strategy",
        ("strategy-choice", "unset"): "name",
        ("faces", "query"): "face_id uri",
        ("no", "such"): "name",
    }.items()
}
"""Management commands, and the fields that they look at."""
DATASETS: Final = (
    "faces/list", "faces/channels", "faces/events", "rib/list", "fib/list", "cs/info", "status/general",
    "strategy-choice/list",
)  # fmt: skip


# ---------------------------------------------------------------- valid packets


def interest(uri: str, nonce: bytes = b"nonc", **options: Any) -> bytes:
    return packet.encode_interest(ndn.from_uri(uri), nonce=nonce, **options)[0]


def command_v3(module: str, verb: str, body: ControlParameters | bytes, **options: Any) -> bytes:
    """A management command as a signed Interest."""
    raw = body if isinstance(body, bytes) else body.encode()
    name = ndn.from_uri(f"/localhost/nfd/{module}/{verb}") + ndn.generic(raw)
    options = {"nonce": b"cmd3", "parameters": b"", "info": DIGEST, "signer": packet.digest_signer} | options
    return packet.encode_interest(name, **options)[0]


def command_v2(module: str, verb: str, body: ControlParameters | bytes, *, prefix: str = "/localhost/nfd") -> bytes:
    """The older format: timestamp, random number and signature are components of the name."""
    raw = body if isinstance(body, bytes) else body.encode()
    name = ndn.from_uri(f"{prefix}/{module}/{verb}") + ndn.generic(raw)
    name += ndn.generic(bytes(8)) + ndn.generic(b"\1" * 8)
    name += ndn.generic(packet.encode_signature_info(packet.DIGEST_INFO))
    name += ndn.generic(encode_tlv(0x17, hashlib.sha256(name).digest()))
    return packet.encode_interest(name, nonce=b"cmd2")[0]


def announcement(prefix: str) -> bytes:
    """A prefix announcement's Data."""
    content = encode_tlv(0x6D, encode_nonneg(60_000))
    name = ndn.from_uri(f"{prefix}/32=PA/v=1/seg=0")
    return packet.encode_data(name, content, content_type=packet.CONTENT_PREFIX_ANNOUNCEMENT)


def fragments(wire: bytes, first: int, size: int = 1200) -> list[bytes]:
    """`wire` in link packets of `size` bytes each, sequence numbers from `first`."""
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    return [
        lp.encode_lp(
            lp.LpPacket(
                piece, sequence=(first + index).to_bytes(8, "big"), frag_index=index, frag_count=len(pieces),
                pit_token=b"frag" if index == 0 else b"",
            )
        )
        for index, piece in enumerate(pieces)
    ]  # fmt: skip


def corpus() -> list[bytes]:
    """Whole link packets of every kind."""
    a, prefix = ndn.from_uri("/a/b"), ndn.from_uri("/fuzz/prefix")
    plain = interest("/a/b", b"abcd")
    rich = interest(
        "/a/b/32=metadata/v=7", b"efgh", can_be_prefix=True, must_be_fresh=True, lifetime_ms=250, hop_limit=3,
        hints=(ndn.from_uri("/h/1"), ndn.from_uri("/localhost/nfd")), parameters=b"hello",
    )  # fmt: skip
    answer = packet.encode_data(a, b"content" * 20, freshness_ms=1000, final_block=ndn.segment(3))
    digest = a + ndn.implicit_digest(packet.decode_data(answer).implicit_digest())
    large = packet.encode_data(ndn.from_uri("/a/large/v=1/seg=0"), bytes(8000))
    signed = packet.encode_data(
        a,
        b"",
        info=packet.SignatureInfo(packet.SIGNATURE_SHA256_WITH_ECDSA, key_locator=prefix, nonce=b"n", sequence=9),
    )
    lacking = b"\x05" + bytes((len(plain) - 8,)) + plain[2:].replace(b"\x0a\x04abcd", b"")
    link = lp.LpPacket
    return [
        plain, rich, answer, large, signed, lacking, *_deep(),
        packet.encode_interest(digest, nonce=b"dig1")[0], interest("/a", b"pre1", can_be_prefix=True),
        interest("/a/large/v=1/seg=0", b"larg"), interest("/localhost/x"), interest("/localhop/x", hop_limit=1),
        packet.encode_data(ndn.from_uri("/localhost/x"), b""), *fragments(large, 90), *fragments(rich, 500, 20),
        *(lp.encode_lp(found) for found in (
            link(plain, pit_token=b"12345678", next_hop_face_id=257), link(rich, pit_token=bytes(32)),
            link(plain, nack_reason=lp.REASON_NO_ROUTE), link(rich, nack_reason=lp.REASON_CONGESTION),
            link(plain, nack_reason=lp.REASON_NONE), link(answer, pit_token=b"1", congestion_mark=1, no_cache=True),
            link(answer, incoming_face_id=254, prefix_announcement=announcement("/a")), link(b"", acks=(bytes(8),) * 3),
            link(plain, tx_sequence=b"\1" * 8, non_discovery=True), link(),
        )),
        command_v3("rib", "register", ControlParameters(name=prefix, expiration_ms=50, flags=3)),
        command_v2("rib", "register", ControlParameters(name=prefix, origin=65)),
        command_v2("rib", "register", ControlParameters(name=prefix), prefix="/localhop/nfd"),
        command_v3("rib", "announce", b"", parameters=announcement("/fuzz/announced")),
        command_v3("cs", "erase", ControlParameters(name=a, count=3)),
        command_v3("strategy-choice", "set", ControlParameters(name=prefix, strategy=ndn.from_uri(STRATEGIES[0]))),
        *(interest(f"/localhost/nfd/{name}", b"list", can_be_prefix=True, must_be_fresh=True) for name in DATASETS),
        interest("/localhost/nfd/faces/query/%96%03%69%01%01", b"quer", can_be_prefix=True),
    ]  # fmt: skip


def _deep() -> list[bytes]:
    """Nesting and numbers of elements as large as a packet allows."""
    inner = b""
    while len(inner) < 8000:
        inner = encode_tlv(0x07, inner)
    links = interest("/a/b")
    for _ in range(200):
        links = encode_tlv(0x64, encode_tlv(0x50, links))
    hints = tuple(ndn.generic(str(index)) for index in range(800))
    return [
        packet.encode_interest(b"\x08\x00" * 4000, nonce=b"deep", lifetime_ms=100)[0], encode_tlv(5, inner), links,
        interest("/a/b", hints=hints), packet.encode_interest(b"\x08\x00" * 60, nonce=b"pref", can_be_prefix=True)[0],
        lp.encode_lp(lp.LpPacket(interest("/a/b"), acks=tuple(bytes(8) for _ in range(700)))),
    ]  # fmt: skip


# ---------------------------------------------------------------- random packets


def random_name(rng: random.Random) -> bytes:
    """From few components, so that packets meet; at times one of a kind."""
    parts = [ndn.generic(rng.choice("abcdh")) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.3:
        parts.append(rng.choice((ndn.segment(rng.randrange(3)), ndn.version(7), ndn.METADATA, ndn.generic(b""))))
    if rng.random() < 0.2:
        parts.append(ndn.generic(rng.randbytes(rng.choice((1, 2, 8, 300)))))
    if rng.random() < 0.05:
        parts.append(ndn.implicit_digest(rng.randbytes(32)))
    if rng.random() < 0.05:
        parts.insert(0, ndn.generic(rng.choice(("localhost", "localhop"))))
    return b"".join(parts)


def random_interest(rng: random.Random) -> bytes:
    return packet.encode_interest(
        random_name(rng),
        nonce=rng.randbytes(4),
        can_be_prefix=rng.random() < 0.3,
        must_be_fresh=rng.random() < 0.3,
        hints=tuple(random_name(rng) for _ in range(rng.choice((0, 0, 0, 1, 3)))),
        lifetime_ms=rng.choice((0, 1, 100, 1000, 4000, 4000, *ODD_NUMBERS)),
        hop_limit=rng.choice((None, None, 0, 1, 2, 255)),
        parameters=rng.choice((None, None, None, b"", rng.randbytes(20))),
    )[0]


def random_data(rng: random.Random) -> bytes:
    return packet.encode_data(
        random_name(rng),
        rng.randbytes(rng.choice((0, 10, 100, 2000))),
        freshness_ms=rng.choice((0, 0, 10, 1000, *ODD_NUMBERS)),
        content_type=rng.choice((0, 0, 2, 3, 5, *ODD_NUMBERS)),
        final_block=rng.choice((None, None, ndn.segment(0))),
    )


def random_link(rng: random.Random, fragment: bytes) -> bytes:
    """Around a packet, header fields as they come."""
    return lp.encode_lp(
        lp.LpPacket(
            fragment,
            sequence=rng.choice((None, rng.randbytes(8), bytes(8), b"\xff" * 8)),
            frag_index=rng.choice((0, 0, 0, 0, 1, 2, rng.choice(ODD_NUMBERS))),
            frag_count=rng.choice((1, 1, 1, 1, 2, 3, rng.choice(ODD_NUMBERS))),
            pit_token=rng.randbytes(rng.choice((0, 0, 1, 4, 32, 33))),
            nack_reason=rng.choice((None, None, None, 0, 50, 100, 150, rng.choice(ODD_NUMBERS))),
            incoming_face_id=rng.choice((None, None, 254, 257, rng.choice(ODD_NUMBERS))),
            next_hop_face_id=rng.choice((None, None, None, *range(255, 262), rng.choice(ODD_NUMBERS))),
            no_cache=rng.random() < 0.2,
            congestion_mark=rng.choice((0, 0, 1, rng.choice(ODD_NUMBERS))),
            acks=tuple(rng.randbytes(8) for _ in range(rng.choice((0, 0, 0, 1, 5)))),
            tx_sequence=rng.choice((None, None, rng.randbytes(8))),
            non_discovery=rng.random() < 0.1,
            prefix_announcement=rng.choice((None, None, None, announcement("/a"), b"\x06\x00")),
        )
    )


def random_parameters(rng: random.Random, wanted: frozenset[str]) -> ControlParameters:
    """Mostly the fields that a command wants, with numbers at the edges; at times others too."""
    values: dict[str, Any] = {}
    for item in fields(ControlParameters):
        if rng.random() < (0.75 if item.name in wanted else 0.03):
            values[item.name] = _random_field(rng, item.name)
    if ("flags" in values) != ("mask" in values) and rng.random() < 0.9:
        values["flags"], values["mask"] = rng.choice((0, 1, 2, 3, 6, 7)), rng.choice((1, 2, 3, 4, 7))
    return ControlParameters(**values)


def _random_field(rng: random.Random, field: str) -> Any:
    match field:
        case "name":
            return rng.choice((random_name(rng), random_name(rng), b"\x08\x00" * rng.choice((0, 32, 33))))
        case "strategy":
            return ndn.from_uri(rng.choice(STRATEGIES))
        case "uri" | "local_uri":
            uri = rng.choice(URIS) if rng.random() < 0.3 else f"udp4://127.0.0.1:{rng.randint(1, 40)}"
            return uri.encode("utf-8", "replace").decode()
        case "capacity":
            return rng.choice((0, 1, *(200,) * 8, *ODD_NUMBERS[-2:]))
        case "face_id":
            return rng.choice((0, *range(255, 270), rng.choice(ODD_NUMBERS)))
        case "persistency":
            return rng.choice((0, 1, 2, 3))
        case "mtu":
            return rng.choice((0, 127, 128, 200, 1400, 9000, 1 << 40))
        case _:
            return rng.choice((0, 1, 2, 3, *ODD_NUMBERS))


def random_command(rng: random.Random) -> bytes:
    module, verb = rng.choice(list(VERBS))
    if (module, verb) == ("rib", "announce") and rng.random() < 0.8:
        return command_v3(module, verb, b"", parameters=announcement("/fuzz/announced"), nonce=rng.randbytes(4))
    body = random_parameters(rng, VERBS[module, verb])
    try:
        if rng.random() < 0.5:
            prefix = "/localhop/nfd" if rng.random() < 0.1 else "/localhost/nfd"
            return command_v2(module, verb, body, prefix=prefix)
        return command_v3(module, verb, body, nonce=rng.randbytes(4))
    except BadPacket:
        return b""


def random_packet(rng: random.Random) -> bytes:
    """One well-formed packet (its header fields may contradict each other)."""
    kind = rng.random()
    if kind < 0.4:
        wire = random_command(rng)
    elif kind < 0.75:
        wire = random_interest(rng)
    else:
        wire = random_data(rng)
    if rng.random() < 0.1:
        wire = rng.choice(fragments(wire, rng.randrange(1 << 40), rng.choice((10, 100, 1000)))) if wire else wire
    return random_link(rng, wire) if rng.random() < 0.35 else wire
