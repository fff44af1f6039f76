"""Who shares KV blocks by cache_salt, and what of them goes over the wire."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ndn_infer.models.store import ModelFolder
from ndn_infer.ndn import tlv
from tests.vllm.relay import block_of, data_name_tlv
from tests.vllm.world import NET, Instance, World, first_layers, links, published, running, wait_for

pytestmark = [
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(560),
]
SLICE = 48
"""Bytes of KV that stand for themselves."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, smollm2: ModelFolder) -> Iterator[World]:
    """`a` and `b` are of a machine that is a member of domain acme; that of `c` is of the network, and no member."""
    folder = tmp_path_factory.mktemp("v")
    with links(folder, first_layers(smollm2.path, folder / "model")) as made:
        settings = [word for one in made.settings("a") for word in ("--set", one)]
        ours = [sys.executable, "-m", "ndn_infer"]
        subprocess.run([*ours, "keys", "init", *settings], check=True, timeout=60)
        shutil.copytree(folder / "data", folder / "other")
        subprocess.run([*ours, "domain", "create", "acme", *settings], check=True, timeout=60)
        peers = [f"{NET}/home/a/vllm"]
        made.start("a")
        made.start("b", socket="relay", peers=peers)
        made.start("c", data="other", peers=[*peers, f"{NET}/home/b/vllm"])
        with running(made):
            yield made


def test_who_shares(three: World) -> None:
    a, b, c = (three.instances[name] for name in "abc")
    prompt = three.prompt(400)

    def cached(instance: Instance, salt: str) -> int:
        return instance.ask(prompt, tokens=1, salt=salt)[0].cached

    assert cached(a, "acme") == cached(a, "nobody") == cached(a, "acme/bob") == 0
    wait_for(lambda: published(a))
    assert [cached(b, salt) for salt in ("nobody", "", "acme/eve", "acme", "acme/bob")] == [0, 0, 0, 384, 384]
    wait_for(lambda: published(b))
    # c is no member; without a salt it has what b computed for everybody
    assert [cached(c, salt) for salt in ("nobody", "", "acme", "acme/bob")] == [0, 384, 0, 0]


def test_nothing_of_a_tenant_is_in_the_clear(three: World) -> None:
    """One prompt read twice, sealed and public: the wire of the second tells what its KV looks like."""
    a, b, c = (three.instances[name] for name in "abc")
    prompt = three.prompt(400)
    first, second = a.ask(prompt, salt="acme")[0], a.ask(prompt)[0]
    assert first.bits == second.bits and first.cached == second.cached == 0
    wait_for(lambda: published(a))
    at = len(three.recorded("down"))
    assert b.ask(prompt, salt="acme")[0].cached == 384
    sealed = three.recorded("down", at)
    assert b.ask(prompt)[0].cached == c.ask(prompt)[0].cached == 384
    clear = three.recorded("down", at + len(sealed))
    names = [{block_of(data_name_tlv(packet)) for packet in segments(record)} for record in (sealed, clear)]
    assert len(names[0]) == len(names[1]) == 3 and not names[0] & names[1]
    looked_for = pieces(clear)
    assert len(looked_for) > 500 and all(piece in clear for piece in looked_for)
    assert not [piece for piece in looked_for if piece in sealed]
    everything = three.recorded("down") + three.recorded("up")
    for kind in ("<8H", "<8I", "<8Q", ">8H", ">8I"):
        assert struct.pack(kind, *prompt[16:24]) not in everything
    assert " ".join(map(str, prompt[16:20])).encode() not in everything
    assert ",".join(map(str, prompt[16:20])).encode() not in everything


def segments(record: bytes) -> Iterator[bytes]:
    """The segments of KV blocks in it."""
    at = 0
    while at < len(record):
        _, _, after = tlv.read_header(record, at, len(record))
        if block_of(data_name_tlv(record[at:after])):
            yield record[at:after]
        at = after


def pieces(record: bytes) -> list[bytes]:
    """Out of the middle of each segment, some that say something."""
    draw = random.Random(4)
    found = []
    for packet in segments(record):
        for _ in range(8):
            at = draw.randrange(len(packet) // 4, len(packet) * 3 // 4 - SLICE)
            if len(set(packet[at : at + SLICE])) > SLICE // 4:
                found.append(packet[at : at + SLICE])
    return found
