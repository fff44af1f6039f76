"""vLLM instances that share KV blocks: what one saved gives another the same bits, whatever happens on the way.

`make test-vllm` runs this; it needs VLLM_PYTHON (world.py). The instances are started once.

vLLM on a CPU rounds by the shapes it computes in: the tail of a prompt computed after a hit of its own cache has other
last bits than the whole prompt computed at once. So an instance that reuses blocks by name is compared bit for bit with
one that has no connector and hits its own cache in the same place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ndn_infer.models.store import ModelFolder
from tests.vllm.world import Answer, World, first_layers, published, wait_for, world

pytestmark = [
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(600),
]
BLOCK = 128
ROUNDING = 0.5
"""Twice of what log probabilities were seen to differ by in other shapes, without any connector."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, smollm2: ModelFolder) -> Iterator[World]:
    """Of the first layers of a real model; test_share_nfd.py has all of them."""
    folder = tmp_path_factory.mktemp("v")
    with world(folder, first_layers(smollm2.path, folder / "model")) as made:
        yield made


def bits(answers: list[Answer]) -> list[tuple[list[int], list[float]]]:
    return [answer.bits for answer in answers]


def alike(answers: list[Answer], wanted: list[Answer]) -> bool:
    """The same tokens, as likely as rounding lets them be: a part was computed, in other shapes."""
    pairs = [
        pair
        for answer, other in zip(answers, wanted, strict=True)
        for pair in zip(answer.logprobs, other.logprobs, strict=True)
    ]
    return [answer.ids for answer in answers] == [answer.ids for answer in wanted] and all(
        abs(one - other) < ROUNDING for one, other in pairs
    )


def equal_up_to_a_tie(answer: Answer, wanted: Answer) -> bool:
    """The same tokens, as likely, up to a place where the other one was the second choice, and nearly the first; what
    follows is another answer."""
    for at, (token, other) in enumerate(zip(answer.ids, wanted.ids, strict=True)):
        if abs(answer.logprobs[at] - wanted.logprobs[at]) > ROUNDING:
            return False
        if token != other:
            second, likely = wanted.seconds[at]
            return token == second and wanted.logprobs[at] - likely <= ROUNDING
    return True


def whole_blocks(prompt: list[int]) -> int:
    return (len(prompt) - 1) // BLOCK * BLOCK


def test_fifty_prompts_give_the_same_bits(shared: World) -> None:
    """200 to 1,900 tokens, every other one with a prefix of the one before, in chunks of 512 tokens."""
    base, a, b, sync = (shared.instances[name] for name in ("base", "a", "b", "sync"))
    prompts = shared.prompts(50)
    computed, hit = [], []
    for prompt in prompts:
        computed.append(base.ask(prompt)[0])
        hit.append(base.ask(prompt)[0])
    assert [answer.cached for answer in hit] == [whole_blocks(prompt) for prompt in prompts]
    assert bits(a.one_by_one(*prompts)) == bits(computed)
    wait_for(lambda: published(a))
    for instance in (b, sync):
        before = instance.count("external_prefix_cache_hits")
        answers = instance.one_by_one(*prompts)
        assert bits(answers) == bits(hit)
        assert [answer.cached for answer in answers] == [answer.cached for answer in hit]
        hits = instance.count("external_prefix_cache_hits") - before
        assert hits == instance.count("named_kv_tokens_matched")
        assert instance.count("named_kv_kv_blocks_loaded") * BLOCK == hits


def test_eight_at_once_have_the_same_bits_where_the_step_waits(shared: World) -> None:
    """Then they are computed beside the same ones as without a network. Who waits beside the step is computed beside
    others, and has the same answers up to ties."""
    base, a, b, sync = (shared.instances[name] for name in ("base", "a", "b", "sync"))
    common = shared.prompt(512)
    prompts = [common[: 256 + 128 * (number % 3)] + shared.prompt(40 + 30 * number) for number in range(8)]
    wanted, hit = base.ask(*prompts), base.ask(*prompts)
    assert all(map(equal_up_to_a_tie, a.ask(*prompts), wanted))
    wait_for(lambda: published(a))
    waited, beside = sync.ask(*prompts), b.ask(*prompts)
    assert bits(waited) == bits(hit) and [one.cached for one in waited] == [one.cached for one in hit]
    assert all(map(equal_up_to_a_tie, beside, hit)) and all(answer.cached for answer in beside)


def long_ones(shared: World) -> list[list[int]]:
    """Seven blocks each, which there are, and while they are answered eight, which is one too much."""
    return [shared.prompt(885 + number) for number in range(8)]


def test_preemption_changes_no_bit_where_the_step_waits(shared: World) -> None:
    """Nobody holds these: `sync` computes, saves, and preempts as one that has no connector."""
    base, sync = shared.instances["base"], shared.instances["sync"]
    prompts = long_ones(shared)
    before = base.count("num_preemptions"), sync.count("num_preemptions")
    wanted, answers = base.ask(*prompts, tokens=48), sync.ask(*prompts, tokens=48)
    preempted = base.count("num_preemptions") - before[0]
    assert preempted > 0 and sync.count("num_preemptions") - before[1] == preempted
    assert bits(answers) == bits(wanted)
    wait_for(lambda: published(sync))


def test_preemption_gives_the_same_answers_beside_the_step(shared: World) -> None:
    """Up to ties: who was preempted has as much of its prompt from others, or from the cache, as there is then, and the
    rest is computed in other shapes. That is so without a connector as well."""
    base, a, b = (shared.instances[name] for name in ("base", "a", "b"))
    prompts = long_ones(shared)
    wanted, before = base.ask(*prompts, tokens=48), b.count("num_preemptions")
    assert all(map(equal_up_to_a_tie, a.ask(*prompts, tokens=48), wanted))
    wait_for(lambda: published(a))
    answers = b.ask(*prompts, tokens=48)
    assert all(map(equal_up_to_a_tie, answers, wanted)) and all(answer.cached for answer in answers)
    assert b.count("num_preemptions") > before


def test_decoded_blocks_are_shared(shared: World) -> None:
    base, a, b = (shared.instances[name] for name in ("base", "a", "b"))
    first = shared.prompt(200)
    answer = a.ask(first, tokens=200)[0]
    assert answer.bits == base.ask(first, tokens=200)[0].bits
    wait_for(lambda: published(a))
    second = first + answer.ids + shared.prompt(20)
    reused = b.ask(second)[0]
    hit = base.ask(second)[0]  # its own cache has the first turn
    assert reused.cached == hit.cached == 3 * BLOCK and reused.bits == hit.bits


def test_a_partition_in_the_middle_of_a_load_costs_time_and_no_token(shared: World) -> None:
    base, a, b = (shared.instances[name] for name in ("base", "a", "b"))
    prompts = [shared.prompt(700 + 100 * number) for number in range(2)]
    wanted = base.one_by_one(*prompts)
    assert bits(a.one_by_one(*prompts)) == bits(wanted)
    wait_for(lambda: published(a))
    before = b.count("named_kv_kv_blocks_failed")
    shared.harm("part")
    try:
        assert alike(b.one_by_one(*prompts), wanted)
    finally:
        shared.harm("none")
    b.ask([7, 8, 9], tokens=1)  # counters move with steps
    assert b.count("named_kv_kv_blocks_failed") > before, "the gap is told"


def test_the_holder_is_killed_while_it_is_read_from(shared: World) -> None:
    """Then the forwarder: what is asked after that is computed, and the gap is counted."""
    base, a, b = (shared.instances[name] for name in ("base", "a", "b"))
    prompts = [shared.prompt(1800), shared.prompt(1500)]
    wanted = base.one_by_one(*prompts)
    a.one_by_one(*prompts)
    wait_for(lambda: published(a))
    shared.harm("hold")  # it is in the middle, for as long as it takes to kill the holder
    b.begin(prompts[0])
    a.kill()
    shared.harm("none")
    assert alike([b.end()], wanted[:1])
    assert shared.forwarder is not None
    shared.forwarder.kill()
    assert alike(b.one_by_one(prompts[1]), wanted[1:])
