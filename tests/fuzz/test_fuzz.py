"""Short runs of the three fuzzers, what they found before, and hostile bytes for every decoder of network bytes: only
declared errors come out."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ndn.app_support import nfd_mgmt

from ndn_infer import config, ndn, records, tensors
from ndn_infer.errors import BadPacket, BadRecord, ConfigError, NdnInferError
from ndn_infer.forwarder.core.parsing import parse_data, parse_interest
from ndn_infer.forwarder.management.encoding import ControlParameters, decode_face_filter, decode_parameters
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.transport.link.registration import decode_response
from ndn_infer.wire.manifest import build_object, decode_manifest
from tests.fuzz.codec_target import check, check_cuts
from tests.fuzz.fuzz_forwarder import main, replay_core, run_codec, run_core, run_sockets, shorten
from tests.fuzz.mutator import Mutator, mutate_bytes, mutate_elements
from tests.fuzz.packets import command_v2, corpus

SEEDS = sorted((Path(__file__).parent / "seeds").glob("*.hex"))
PACKETS = corpus()
OBJECT = build_object(ndn.from_uri("/o"), 1, bytes(20_000), packet.encode_data)
RECORD = records.encode(records.TokenEvent((1, 2), "x", kv=records.KvSources(named=3), kv_names=("/a",)))
TENSOR = tensors.encode_tensor(tensors.RawTensor("f32", (2, 3), bytes(24)))


# ---------------------------------------------------------------- short runs


def test_codecs() -> None:
    result = run_codec(30_000, seed=1)
    assert not result.findings, result.findings
    assert result.understood > 10_000


def test_core() -> None:
    result = run_core(40_000, seed=1)
    assert not result.findings, result.findings
    assert result.understood > 5000 and result.relayed > 2000 and result.honest == 8


def test_sockets() -> None:
    result = run_sockets(20_000, seed=2)
    assert result.honest >= 4 and result.understood > 1000 and result.relayed > 300


def test_every_beginning_of_every_packet() -> None:
    rng = random.Random(1)
    for wire in PACKETS:
        check(wire)
        check_cuts(wire, rng)


def test_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["400", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["codec:", "200"], ["core:", "160"], ["sockets:", "40"]]


# ---------------------------------------------------------------- what was found


def packets_of(seed: Path) -> list[bytes]:
    """Lines of hex, one a packet; lines with # are notes."""
    return [bytes.fromhex(line) for line in seed.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_seed(seed: Path) -> None:
    assert seed.read_text().startswith("# "), "a seed tells in its first line what it found"
    packets = packets_of(seed)
    assert packets
    for wire in packets:
        check(wire)
    replay_core(packets)


# ---------------------------------------------------------------- the tools themselves


def test_a_seed_gives_the_same_packets() -> None:
    assert Mutator(7).packets(2000) == Mutator(7).packets(2000) != Mutator(8).packets(2000)


def test_over_sockets_no_face_is_created() -> None:
    assert any(b"create" in wire for wire in Mutator(1).packets(5000))
    assert not any(b"create" in wire for wire in Mutator(1, creating=False).packets(5000))


def test_shorten() -> None:
    packets = [bytes((number,)) for number in range(200)]
    assert shorten(packets, lambda some: b"\x05" in some and b"\x64" in some) == [b"\x05", b"\x64"]
    assert shorten(packets, lambda some: b"\xc7" in some) == [b"\xc7"]
    assert shorten(packets, lambda some: False) == packets


def test_the_older_command_format_is_that_of_python_ndn() -> None:
    theirs = [bytes(part) for part in nfd_mgmt.make_command("rib", "register", name="/a")]
    mine = ndn.components(
        packet.decode_interest(command_v2("rib", "register", ControlParameters(name=ndn.from_uri("/a")))).name
    )
    assert mine[:5] == theirs[:5] and len(mine) == len(theirs)
    assert [len(part) for part in mine] == [len(part) for part in theirs]


# ---------------------------------------------------------------- decoders


def as_manifest(wire: bytes) -> object:
    return decode_manifest(packet.decode_data(wire))


DECODERS: dict[str, tuple[Callable[[bytes], Any], type[NdnInferError], list[bytes]]] = {
    "interest": (packet.decode_interest, BadPacket, PACKETS),
    "data": (packet.decode_data, BadPacket, [*PACKETS, OBJECT.metadata]),
    "link packet": (lp.decode_lp, BadPacket, PACKETS),
    "forwarder, Interest": (parse_interest, BadPacket, PACKETS),
    "forwarder, Data": (parse_data, BadPacket, PACKETS),
    "manifest": (as_manifest, BadPacket, [OBJECT.metadata]),
    "record": (lambda wire: records.decode(records.TokenEvent, wire), BadRecord, [RECORD]),
    "tensor": (tensors.decode_tensor, BadRecord, [TENSOR]),
    "control parameters": (decode_parameters, BadPacket, [b"\x68\x05\x07\x03\x08\x01a", b"\x68\x03\x69\x01\x05"]),
    "face filter": (decode_face_filter, BadPacket, [b"\x96\x03\x69\x01\x05"]),
    "control response": (decode_response, BadPacket, [b"\x65\x0a\x66\x01\xc8\x67\x02OK\x68\x01\x69"]),
    "name": (lambda wire: ndn.to_uri(ndn.decode_name(wire, 0, len(wire))), BadPacket, [ndn.from_uri("/a/v=1/seg=2")]),
    "stream": (lambda wire: tlv.Framer(9000).feed(wire), BadPacket, PACKETS),
}


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=200)
@given(st.integers(0, 2**32), st.binary(max_size=60))
def test_decoders_raise_nothing_but_what_they_declare(decoder: str, seed: int, raw: bytes) -> None:
    decode, declared, samples = DECODERS[decoder]
    rng = random.Random(seed)
    for change in (mutate_bytes, mutate_elements):
        for wire in (raw, change(rng, rng.choice(samples), samples)):
            try:
                decode(wire)
            except declared:
                continue


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.text(max_size=30))
def test_configuration_raises_nothing_but_config_error(seed: int, text: str) -> None:
    samples = [b"fetch.lifetime_ms=100", b"ask.model=x"]
    flag = mutate_bytes(random.Random(seed), samples[seed % 2], samples).decode("utf-8", "replace")
    for candidate in (text, flag):
        try:
            config.load(file=Path(os.devnull), flags=[candidate])
        except ConfigError:
            continue
