"""A pipeline of stages over the real forwarder core: the tokens of one engine, whatever happens to a stage."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.functions.stage_steps import (  # noqa: E402
    Step,
)
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.records import Sampling, TokenLogprobs, grammar  # noqa: E402
from ndn_infer.wire import readership  # noqa: E402
from tests.daemons import run_network  # noqa: E402
from tests.harness import role  # noqa: E402
from tests.inprocess.test_streams import until  # noqa: E402
from tests.pipeline_kit import CHUNK, CUTS, GREEDY, PROMPTS, SAMPLED, TOWN, Model, alone, line, random_model  # noqa: E402

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def small(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights with the tokenizer of the real model."""
    return random_model(smollm2, tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(("cut", "dtype"), [("two", "fp32"), ("three", "bf16")])
def test_the_tokens_of_one_engine(small: Model, cut: str, dtype: str) -> None:
    asked = [(prompt, sampling) for prompt in PROMPTS for sampling in (GREEDY, SAMPLED)]
    expected = alone(small, asked, dtype=dtype)

    async def run() -> None:
        async with line(small, CUTS[cut], dtype=dtype) as stages:
            got = await asyncio.gather(*(stages.ask(*each) for each in asked))
            assert got == expected
            for number in range(1, len(stages.ranges)):
                assert stages.counter(number, "activations_pulled") > 0
                assert stages.counter(number, "steps_computed_again") == 0

    asyncio.run(run())


def test_a_receipt_lists_what_each_stage_says_that_it_took(small: Model) -> None:
    async def run() -> None:
        async with line(small, CUTS["three"], dtype="bf16") as stages:
            receipt = [event.receipt async for event in stages.events(PROMPTS[0], GREEDY)][-1]
            assert receipt is not None and receipt.decode_us > 0
            first, *others = receipt.stages
            assert [one.identity for one in receipt.stages] == [
                ndn.to_uri(role("stage", node=f"s{number}")) for number in range(len(stages.ranges) - 1)
            ]
            assert min(first.prefill_us, first.decode_us, *(one.decode_us for one in others)) > 0
            again = [event.receipt async for event in stages.events(PROMPTS[0], GREEDY)][-1]
            assert again == receipt  # the same answer

    asyncio.run(run())


def test_prompts_are_scored_as_by_one_engine(small: Model) -> None:
    prompt, sampling = PROMPTS[-1], Sampling(max_tokens=2, logprobs=3, score_prompt=True)
    engine = Engine.load(small.path, EngineConfig(dtype="fp32", chunk_tokens=CHUNK))
    stream = engine.start(prompt, sampling)
    scores = []
    while stream.finished is None:
        scores += [score for output in engine.step() for score in output.scores]

    async def run() -> None:
        async with line(small, CUTS["two"]) as stages:
            told: list[TokenLogprobs] = []
            ids: list[int] = []
            async for event in stages.events(prompt, sampling):
                assert event.finish != "error" and not (event.prompt and ids), event.error
                told += event.prompt
                ids += event.ids
            assert [(one.logprob, one.top) for one in told] == [(score.logprob, score.top) for score in scores]
            assert ids == stream.generated and len(told) == len(prompt)

    asyncio.run(run())


def test_the_model_that_is_shipped(smollm2: ModelFolder) -> None:
    model = Model(smollm2.path, smollm2.digest, 30)
    held = replace(SAMPLED, max_tokens=20, grammar=grammar.of_json_schema(TOWN))
    asked = [(PROMPTS[-1], GREEDY), (PROMPTS[-1], SAMPLED), (PROMPTS[-1], held)]
    expected = alone(model, asked, dtype="bf16")

    async def run() -> None:
        async with line(model, (10, 20), dtype="bf16") as stages:
            assert [await stages.ask(*each) for each in asked] == expected

    asyncio.run(run())


def test_equal_prompts_share_activations(small: Model) -> None:
    """Greedy and sampled answers to one prompt: the prompt goes through the first stage once."""

    async def run() -> None:
        async with line(small, CUTS["two"]) as stages:
            await stages.ask(PROMPTS[-1], GREEDY)
            first = stages.counter(0, "activations_published")
            await stages.ask(PROMPTS[-1], replace(SAMPLED, max_tokens=1))
            assert stages.counter(0, "activations_published") == first
            await stages.ask([*PROMPTS[-1][:64], 5, 6, 7, 8, 9, 10, 11, 12], replace(GREEDY, max_tokens=1))
            assert stages.counter(0, "activations_published") == first + 1, "two pieces of three were there"

    asyncio.run(run())


@pytest.mark.parametrize(("weights", "gone"), [("int4", (2,)), ("bf16", (1, 2)), ("int4", (0, 1, 2))])
def test_an_answer_goes_on_bit_for_bit_from_any_position(small: Model, weights: str, gone: tuple[int, ...]) -> None:
    """KV of these stages is lost; the others take what they have."""
    long, prompt = replace(SAMPLED, max_tokens=2 * CHUNK + 3, logprobs=1), PROMPTS[-1]

    async def run() -> None:
        async with line(small, CUTS["three"], dtype="bf16", weights=weights) as stages:
            whole = await stages.say(prompt, long)
            ids = [token for token, _ in whole]
            for at in (1, CHUNK + 1, 2 * CHUNK + 2):
                for number in gone:
                    await stages.restart(number)
                left = replace(long, max_tokens=long.max_tokens - at)
                assert await stages.say([*prompt, *ids[:at]], left, answered=at) == whole[at:], at

    asyncio.run(run())


def test_what_was_decoded_is_no_more_computed_by_stages_that_live(small: Model) -> None:
    """An answer whose last stage died: the stages before put together what they gave token by token."""
    long, prompt = replace(GREEDY, max_tokens=40, logprobs=1), PROMPTS[-1]

    async def run() -> None:
        async with line(small, CUTS["two"], dtype="bf16") as stages:
            whole = await stages.say(prompt, long)
            await stages.restart(1)
            first = stages.peers[0].stages  # type: ignore[attr-defined]
            computed: list[Step] = []
            compute = first.compute

            async def noted(step: Step, *arguments: Any, **options: Any) -> torch.Tensor:
                computed.append(step)
                return await compute(step, *arguments, **options)

            first.compute = noted
            ids = [token for token, _ in whole]
            assert await stages.say([*prompt, *ids[:30]], replace(long, max_tokens=10), answered=30) == whole[30:]
            assert not computed, "its prompt, its past and its future lie there"

    asyncio.run(run())


def test_who_left_gives_the_place_away_and_finds_the_same_tokens_when_it_comes_back(
    small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place. The first answer is left, another one is given meanwhile, then somebody reads the first to its end."""
    monkeypatch.setattr(readership, "READ_S", 0.3)
    long = replace(GREEDY, max_tokens=200)
    expected = alone(small, [(PROMPTS[-1], long)], dtype="fp32")[0]

    async def run() -> None:
        async with line(small, CUTS["two"], max_streams=1, delay_s=0.01) as stages:
            ids: list[int] = []
            async with aclosing(stages.events(PROMPTS[-1], long)) as events:
                async for event in events:
                    ids += event.ids
                    if len(ids) >= 3:
                        break
            assert len(await stages.ask(PROMPTS[0], GREEDY)) == GREEDY.max_tokens
            made = stages.counter(1, "tokens_decoded") - GREEDY.max_tokens
            assert made < 200 and stages.peers[1].producer.status(role("decode", node="s1")).running == 1
            assert await stages.ask(PROMPTS[-1], long) == expected
            assert stages.counter(1, "tokens_decoded") == 200 + GREEDY.max_tokens, "it went on where it was"

    asyncio.run(run())


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_no_stage_computes_when_nobody_reads(small: Model, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Counted in steps, from the moment at which the reader is missed: the one that is being computed, and the piece of
    a prompt that was asked for ahead."""
    monkeypatch.setattr(readership, "READ_S", 0.3)
    prompt, long = [(31 * n + 5) % 1000 for n in range(480)], replace(GREEDY, max_tokens=400)
    asked, pieces = (prompt, 480 // CHUNK) if where == "prompt" else (PROMPTS[1], 400)

    async def run() -> None:
        async with line(small, CUTS["two"], delay_s=0.05) as stages:
            reading = asyncio.ensure_future(stages.ask(asked, long))
            await until(lambda: stages.counter(1, "steps") >= 3, 30.0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            (answer,) = stages.peers[1].function._answers._tasks  # type: ignore[attr-defined]
            await until(lambda: answer.away, 10.0)
            last, first = stages.counter(1, "steps"), stages.counter(0, "activations_published")
            await asyncio.sleep(1.0)
            assert stages.counter(1, "steps") <= min(last + 1, pieces - 1)
            assert stages.counter(0, "activations_published") <= first + 2

    asyncio.run(run())


def test_from_the_command_line(smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
    """Stages in processes of their own, on one node, which `ndn-infer ask` does not know of; one of them is killed."""
    functions = ("--functions", "tokenize,stage:0-9,stage:10-19,decode:20-29")
    with run_network(tmp_path, model_cache, *functions, NDN_INFER_ENGINE_CHUNK_TOKENS=str(CHUNK)) as network:
        first = network.ask("What is the capital of France?", "--max-tokens", "12")
        assert "Paris" in first["text"]
        assert network.counters("decode")["activations_pulled"] >= len(first["token_ids"])
        os.kill(network.pid("stage"), signal.SIGKILL)
        options = ("--max-tokens", "8", "--temperature", "0.9", "--seed", "3")
        second = network.ask("Name three colours of the rainbow.", *options)
    sampled = Sampling(max_tokens=8, temperature=0.9, seed=3)
    asked = [(first["prompt_token_ids"], Sampling(max_tokens=12)), (second["prompt_token_ids"], sampled)]
    model = Model(smollm2.path, smollm2.digest, 30)
    for expected, answer in zip(alone(model, asked, dtype="bf16"), (first, second), strict=True):
        assert answer["token_ids"] == expected[: len(answer["token_ids"])]
        assert len(answer["token_ids"]) == len(expected) or answer["finish"] == "stop"
