"""Which blocks of a request are saved, and which are not: by the records of the scheduler's half."""

from __future__ import annotations

from ndn_infer.vllm.book import BlockMemory, RequestBook, Scheduled
from ndn_infer.vllm.naming import BlockChain

IDS = list(range(1000))
VALUES = BlockChain().extend(IDS, 99)


def book(**options: bool) -> RequestBook:
    return RequestBook(16, BlockMemory(), **options)


def begun(made: RequestBook, request: str = "r", prompt: int = 100) -> RequestBook:
    made.begin(request, BlockChain(), prompt)
    return made


def saved(
    made: RequestBook, blocks: list[int], computed: int, tokens: int, known: int = 100, **more: bool
) -> list[int]:
    """Numbers of the blocks, in the cache, that one step of request r lets be saved."""
    step = Scheduled("r", blocks, computed, tokens, IDS[:known], **more)
    found = list(made.scheduled(step))
    assert [item.value for item in found] == [VALUES[item.block - 50] for item in found]
    return [item.block for item in found]


def test_a_prompt_in_one_step() -> None:
    assert saved(begun(book()), [50, 51, 52, 53, 54, 55, 56], 0, 100) == [50, 51, 52, 53, 54, 55]


def test_chunks_and_decoded_blocks() -> None:
    made = begun(book())
    assert saved(made, [50, 51], 0, 20) == [50]
    assert saved(made, [52, 53, 54, 55, 56], 20, 80) == [51, 52, 53, 54, 55]
    for known in range(101, 113):
        assert saved(made, [], known - 1, 1, known) == ([56] if known == 112 else [])


def test_decoded_blocks_of_unknown_tokens_wait() -> None:
    """vLLM may schedule a token before it knows the one before."""
    made = begun(book(), prompt=110)
    saved(made, [50, 51, 52, 53, 54, 55, 56], 0, 110, 110)
    assert saved(made, [], 110, 1, 110) == saved(made, [], 111, 1, 111) == []
    assert [item.block for item in made.finished("r", [50, 51, 52, 53, 54, 55, 56], 112, IDS[:112])] == [56]
    assert len(made) == 0


def test_prompts_only() -> None:
    made = begun(book(prompts_only=True), prompt=31)
    assert saved(made, [50, 51], 0, 31, 31) == [50]
    assert saved(made, [], 31, 1, 32) == []


def test_what_was_fetched_is_not_signed_here() -> None:
    made = begun(book())
    for value in VALUES[:3]:
        made.memory.fetched("public", value)
    assert saved(made, [50, 51, 52, 53, 54, 55, 56], 48, 52) == [53, 54, 55]
    made.begin("r", BlockChain(), 100)  # the next request finds them in vLLM's own cache
    assert saved(made, [50, 51, 52, 53, 54, 55, 56], 96, 4) == []


def test_what_could_not_be_fetched_is_computed_and_signed() -> None:
    made = begun(book())
    for value in VALUES[:3]:
        made.memory.fetched("public", value)
    assert saved(made, [50, 51, 52, 53, 54, 55, 56], 16, 84) == [51, 52, 53, 54, 55]


def test_a_block_is_saved_once_until_nobody_has_it() -> None:
    made = begun(book())
    saved(made, [50, 51, 52], 0, 48)
    made.begin("r", BlockChain(), 100)
    assert saved(made, [50, 51, 52, 53], 48, 16) == [53]
    made.memory.missing("public", VALUES[1:3])
    made.begin("r", BlockChain(), 100)
    assert saved(made, [50, 51, 52, 53], 16, 48) == [51, 52]


def test_a_hit_of_the_cache_that_was_never_saved_is_saved() -> None:
    assert saved(begun(book()), [50, 51, 52], 32, 16) == [50, 51, 52]


def test_preempted_and_resumed_in_other_blocks() -> None:
    made = begun(book())
    assert saved(made, [50, 51], 0, 20) == [50]
    assert saved(made, [50, 51, 52], 0, 48, resumed=True) == [51, 52]
    made = begun(book())
    assert saved(made, [50], 0, 16) == [50]
    step = Scheduled("r", [70, 71], 0, 32, IDS[:100], True)
    assert [(item.block, item.value) for item in made.scheduled(step)] == [(71, VALUES[1])]


def test_who_ends_before_anything_was_computed() -> None:
    made = begun(book())
    assert made.finished("r", [50, 51], 32, IDS) == []
    assert made.finished("r", [50, 51], 32, IDS) == [] == list(made.scheduled(Scheduled("x", [1], 0, 16, IDS)))


def test_memory_is_bounded() -> None:
    memory = BlockMemory(1)
    for number in range(70_000):
        memory.published("public", number.to_bytes(8))
    assert not memory.is_published("public", (0).to_bytes(8)) and memory.is_published("public", (69_999).to_bytes(8))
    assert not memory.is_published("other", (69_999).to_bytes(8))
