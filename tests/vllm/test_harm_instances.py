"""Harmed blocks below vLLM itself, a thousand with `-m slow`: every request completes, with the bits of one that was
computed.

Two instances, of the first layers of a real model. Every block of a prompt is harmed in several segments, so the reader
computes all of it, in the shapes in which the other one did.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ndn_infer.models.store import ModelFolder
from tests.vllm.test_share import alike
from tests.vllm.world import NET, Answer, Instance, World, first_layers, links, published, running, wait_for

pytestmark = [
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(560),
]
TOKENS = 1900
"""Fifty-nine blocks of 32."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, smollm2: ModelFolder) -> Iterator[World]:
    """`a` holds as many blocks as two prompts have, `b` reads them."""
    folder = tmp_path_factory.mktemp("v")
    model = first_layers(smollm2.path, folder / "model")
    with links(folder, model, {"block_size": 32, "num_gpu_blocks_override": 256}) as made:
        made.start("a", more=["producer.store_mib=18"])
        made.start("b", socket="relay", peers=[f"{NET}/home/a/vllm"], load_timeout_s=10, lookup_ms=4000)
        with running(made):
            yield made


def failed(instance: Instance) -> float:
    instance.ask([7, 8, 9], tokens=1)  # counters move with steps
    return instance.count("named_kv_kv_blocks_failed")


def read(world: World, kind: str, prompt: list[int]) -> tuple[Answer, int]:
    """What `b` answers, and how many blocks were harmed on the way and then computed."""
    a, b = world.instances["a"], world.instances["b"]
    before = failed(b)
    world.harm("late" if kind in ("withheld", "stale") else kind)
    b.begin(prompt)
    if kind == "stale":  # found there, and then overwritten there by others
        wait_for(lambda: world.harm("late")[0] > 0)
        for _ in range(3):
            a.ask(world.prompt(TOKENS))
        wait_for(lambda: published(a))
        world.harm("none")
    answer = b.end()
    _, harmed = world.harm("none")
    more = int(failed(b) - before)
    return answer, more if kind in ("withheld", "stale") else min(harmed, more)


@pytest.mark.parametrize("least", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["flip", "cut", "swap", "withheld", "stale"])
def test_harmed_blocks_of_each_kind_cost_no_bit(two: World, kind: str, least: int) -> None:
    a, harmed, requests = two.instances["a"], 0, 0
    while harmed < least:
        prompt = two.prompt(TOKENS)
        wanted = a.ask(prompt)[0]
        wait_for(lambda: published(a))
        answer, more = read(two, kind, prompt)
        if kind == "stale":  # a block may have come whole before: what follows it is computed in other shapes
            assert alike([answer], [wanted])
        else:
            assert answer.bits == wanted.bits
        assert more > 0, "it was read by name"
        harmed, requests = harmed + more, requests + 1
    print(f"{kind}: {harmed} blocks of {requests} requests")


def test_and_what_nobody_harms_is_read(two: World) -> None:
    a, b = two.instances["a"], two.instances["b"]
    prompt = two.prompt(TOKENS)
    a.ask(prompt)
    wait_for(lambda: published(a))
    before = failed(b)
    again = b.ask(prompt)[0]
    assert again.ids == a.ask(prompt)[0].ids and again.cached == (TOKENS - 1) // 32 * 32 and failed(b) == before
