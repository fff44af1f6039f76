"""A short run of the fuzzer, and hostile bytes for every decoder of network bytes: only declared errors come out."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import config, lp, packet, records, tensors, tlv
from ndn_infer import name as ndn
from ndn_infer.errors import BadPacket, BadRecord, ConfigError, NdnInferError
from ndn_infer.forwarder.mgmt_tlv import decode_face_filter, decode_parameters
from ndn_infer.forwarder.parsing import parse_data, parse_interest
from ndn_infer.transport.registration import decode_response
from ndn_infer.wire.manifest import build_object, decode_manifest
from tests.fuzz.fuzz_forwarder import main, mutate, run_memory, run_sockets, seeds

OBJECT = build_object(ndn.from_uri("/o"), 1, bytes(20_000), packet.encode_data)
RECORD = records.encode(records.TokenEvent((1, 2), "x", kv=records.KvSources(named=3), kv_names=("/a",)))
TENSOR = tensors.encode_tensor(tensors.RawTensor("f32", (2, 3), bytes(24)))


def test_twenty_thousand_packets_leave_the_core_serving() -> None:
    result = run_memory(16_000, seed=1)
    assert result.malformed > 5000 and result.relayed > 500 and result.honest == 1


def test_packets_over_sockets_leave_the_daemon_serving() -> None:
    result = run_sockets(4000, seed=2)
    assert result.packets == 4000 and result.honest >= 1 and result.relayed > 50


def test_the_script_divides_its_count() -> None:
    assert [result.packets for result in main(400, 3, "both")] == [300, 100]


def as_manifest(wire: bytes) -> object:
    return decode_manifest(packet.decode_data(wire))


DECODERS: dict[str, tuple[Callable[[bytes], Any], type[NdnInferError], list[bytes]]] = {
    "interest": (packet.decode_interest, BadPacket, seeds()),
    "data": (packet.decode_data, BadPacket, [*seeds(), OBJECT.metadata]),
    "link packet": (lp.decode_lp, BadPacket, seeds()),
    "forwarder, Interest": (parse_interest, BadPacket, seeds()),
    "forwarder, Data": (parse_data, BadPacket, seeds()),
    "manifest": (as_manifest, BadPacket, [OBJECT.metadata]),
    "record": (lambda wire: records.decode(records.TokenEvent, wire), BadRecord, [RECORD]),
    "tensor": (tensors.decode_tensor, BadRecord, [TENSOR]),
    "control parameters": (decode_parameters, BadPacket, [b"\x68\x05\x07\x03\x08\x01a", b"\x68\x03\x69\x01\x05"]),
    "face filter": (decode_face_filter, BadPacket, [b"\x96\x03\x69\x01\x05"]),
    "control response": (decode_response, BadPacket, [b"\x65\x0a\x66\x01\xc8\x67\x02OK\x68\x01\x69"]),
    "name": (lambda wire: ndn.to_uri(ndn.decode_name(wire, 0, len(wire))), BadPacket, [ndn.from_uri("/a/v=1/seg=2")]),
    "stream": (lambda wire: tlv.Framer(9000).feed(wire), BadPacket, seeds()),
}


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=200)
@given(st.integers(0, 2**32), st.binary(max_size=60))
def test_decoders_raise_nothing_but_what_they_declare(decoder: str, seed: int, raw: bytes) -> None:
    decode, declared, corpus = DECODERS[decoder]
    for wire in (raw, mutate(random.Random(seed), corpus)):
        try:
            decode(wire)
        except declared:
            continue


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.text(max_size=30))
def test_configuration_raises_nothing_but_config_error(seed: int, text: str) -> None:
    flag = mutate(random.Random(seed), [b"fetch.lifetime_ms=100", b"ask.model=x"]).decode("utf-8", "replace")
    for candidate in (text, flag):
        try:
            config.load(file=Path(os.devnull), flags=[candidate])
        except ConfigError:
            continue
