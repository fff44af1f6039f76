"""Stages of a pipeline that die, are lost, forget, are refused or refuse: the tokens stay those of one engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.engine_class import WRONG_ENGINE  # noqa: E402
from ndn_infer.errors import CallError, NdnInferError, UsageError  # noqa: E402
from ndn_infer.functions.pipeline import GenerateOverStages  # noqa: E402
from ndn_infer.functions.stage import RunStage  # noqa: E402
from ndn_infer.functions.stage_host import StageHost  # noqa: E402
from ndn_infer.functions.stage_steps import (  # noqa: E402
    NO_KV,
    SERVICE,
    StageReport,
    StageRequest,
    function_before,
)
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.namespace import activations_prefix  # noqa: E402
from ndn_infer.transport.calls.ask import Ask  # noqa: E402
from ndn_infer.transport.calls.caller import ResultLost  # noqa: E402
from ndn_infer.transport.calls.candidates import Candidate, Said  # noqa: E402
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES  # noqa: E402
from tests.engine_kit import engine_here  # noqa: E402
from tests.harness import NET, role  # noqa: E402
from tests.pipeline_kit import CHUNK, CUTS, GREEDY, LAYERS, PROMPTS, SAMPLED, Model, alone, line, random_model  # noqa: E402

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def small(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights with the tokenizer of the real model."""
    return random_model(smollm2, tmp_path_factory.mktemp("small"))


class AnyOf:
    """Chooses (transport.calls.candidates.Chooser): one of those that could, another one each time."""

    def __init__(self, hints: Sequence[ndn.Name]) -> None:
        self.hints, self.asked = list(hints), 0

    async def candidates(self, call: Any, request: Any, *, settled: bool = False) -> Sequence[Candidate]:
        self.asked += 1
        self.hints.append(self.hints.pop(0))
        return [Candidate((hint,)) for hint in self.hints]

    def heard(self, call: Any, candidate: Candidate, said: Said) -> None:
        pass

    def refuses(self, identity: ndn.Name) -> str:
        return ""


def test_of_several_stages_one_has_a_sequence_until_it_dies(small: Model) -> None:
    """Whoever gave a step has its KV. Another one that computes the same layers would compute all of it again."""
    expected = alone(small, [(PROMPTS[3], GREEDY)])[0]

    async def run() -> None:
        async with line(small, (3,)) as pipeline:
            pipeline.keychain.ensure(role("stage", node="s9"))
            twins = {"s0": pipeline.peers[0], "s9": await pipeline.join()}
            stages = StageHost(small.digest, small.path, pipeline.ranges[0], pipeline.config.engine)
            await twins["s9"].offer(RunStage(stages), role("stage", node="s9"))
            signers = {node: pipeline.keychain.signer_for(role("stage", node=node)) for node in twins}
            chooser = AnyOf([twin.host.hint(signers[node]) for node, twin in twins.items()])
            caller = pipeline.peers[-1].host.caller
            caller._chooser = caller._asking._chooser = chooser
            ids: list[int] = []
            async for event in pipeline.events(PROMPTS[3], GREEDY):
                assert event.finish != "error", event.error
                ids += event.ids
                if len(ids) == 6:
                    assert chooser.asked == 1, "one step chose, for all that came after it"
                    given = {node: twin.host.counters["activations_published"] for node, twin in twins.items()}
                    assert min(given.values()) == 0
                    holder, other = sorted(given, key=lambda node: -given[node])
                    await twins.pop(holder).close()
            assert ids == expected
            assert twins[other].host.counters["activations_published"] > 0
            assert sum(twin.host.counters["steps_computed_again"] for twin in twins.values()) > 0
            await twins[other].close()

    asyncio.run(run())


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1)])
def test_a_stage_that_is_restarted_computes_again_what_it_lost(small: Model, gone: tuple[int, ...]) -> None:
    expected = alone(small, [(PROMPTS[-1], SAMPLED)], dtype="bf16")[0]

    async def run() -> None:
        async with line(small, CUTS["three"], dtype="bf16") as stages:
            ids: list[int] = []
            async for event in stages.events(PROMPTS[-1], SAMPLED):
                assert event.finish != "error", event.error
                ids += event.ids
                if len(ids) == 5:
                    for number in gone:
                        await stages.restart(number)
            assert ids == expected
            for number in gone:
                assert stages.counter(number, "steps_computed_again") >= 3

    asyncio.run(run())


def test_kv_that_was_given_up_is_computed_again(small: Model) -> None:
    expected = alone(small, [(PROMPTS[-1], GREEDY)], dtype="fp32")[0]

    async def run() -> None:
        async with line(small, CUTS["three"]) as stages:
            ids: list[int] = []
            async for event in stages.events(PROMPTS[-1], GREEDY):
                ids += event.ids
                for peer in stages.peers:
                    peer.stages.forget()  # type: ignore[attr-defined]
            assert ids == expected

    asyncio.run(run())


def test_activations_that_nobody_has_any_more_are_computed_again(small: Model) -> None:
    """A cache still has the first stage's answer, which names an activation that was given up."""
    expected = alone(small, [(PROMPTS[-1], SAMPLED)], dtype="fp32")[0]

    async def run() -> None:
        async with line(small, CUTS["two"]) as stages:
            await stages.ask(PROMPTS[-1], GREEDY)
            first = stages.peers[0]
            held = activations_prefix(NET, small.digest, engine_here(stages.config.engine), 3)
            gone = [name for name in first.server.store._objects if name.startswith(held)]
            assert len(gone) == 2, "all others were in an answer, and nobody asked for them by name"
            for base in gone:
                first.server.store.remove(base)
            stages.network.core.cs.erase(held, 1 << 20)
            await stages.restart(1)
            assert await stages.ask(PROMPTS[-1], SAMPLED) == expected
            again = [name for name in first.server.store._objects if name.startswith(held)]
            assert set(gone) & set(again), "pieces of the prompt, which are too large for an answer"

    asyncio.run(run())


def test_a_stage_with_the_wrong_key_is_refused(small: Model) -> None:
    async def run() -> None:
        async with line(small, CUTS["two"], signed_by="user", deadline_s=2.0) as stages:
            with pytest.raises(ResultLost, match="key|sign"):
                async for event in stages.events(PROMPTS[1], GREEDY):
                    assert not event.ids
            assert stages.counter(1, "activations_pulled") == 0

    asyncio.run(run())


def test_what_a_stage_refuses(small: Model) -> None:
    async def run() -> None:
        async with line(small, CUTS["two"]) as stages:
            host = stages.peers[0].stages  # type: ignore[attr-defined]
            seed, engine = host.cutter.seed.hex(), str(host.engine_class)
            good = StageRequest(small.digest, engine, 0, 3, (5, 6, 7), seed, CHUNK)
            cases = [
                (replace(good, engine="bf16.other"), WRONG_ENGINE, f"as engine class {engine}, not bf16.other"),
                (replace(good, model="0" * 64), "wrong-pieces", "this stage"),
                (replace(good, chunk_tokens=64), "wrong-pieces", "64"),
                (replace(good, ids=()), "bad-request", "runs after it"),
                (replace(good, prompt=2), "bad-request", "runs after it"),
                (replace(good, ids=(5, 6, 1000)), "bad-request", "outside the vocabulary"),
                (replace(good, prompt=100000), "bad-request", "512"),
                (replace(good, start=1, prompt=4), "bad-request", "runs after it"),
                (replace(good, parent="00" * 32), "bad-request", "seed"),
                (replace(good, start=3, ids=(8,) * (CHUNK + 1), parent="00" * 32), "bad-request", "runs after it"),
                (replace(good, start=3, ids=(8,), parent="00" * 32), NO_KV, "do not hold"),
                (replace(good, start=3, ids=(8,), parent="00" * 32, before=(5, 6, 7)), "bad-request", "do not hash"),
            ]
            function = function_before(3, small.digest)
            for request, code, words in cases:
                with pytest.raises(CallError, match=words) as caught:
                    await stages.asker.caller.call(Ask(SERVICE, function, request), StageReport)
                assert caught.value.code == code, request
            report = await stages.asker.caller.call(Ask(SERVICE, function, good), StageReport)
            base = host.activation(NET, 3, bytes.fromhex(report.chain))
            store = stages.peers[0].server.store
            assert base not in store, "it is in the answer, and is signed when somebody asks for it by name"
            fetched = await stages.asker.fetcher.fetch(base, most=MAX_OBJECT_BYTES)
            assert base in store and fetched.signed_by.identity == role("stage", node="s0")
            assert report.tensor in (b"", fetched.content)

    asyncio.run(run())


def test_ranges_that_make_no_sense(small: Model) -> None:
    async def run() -> None:
        for cut, words in (((LAYERS,), "nothing takes"), ((40,), "layers 0-5")):
            with pytest.raises(NdnInferError, match=words):
                async with line(small, cut):
                    pass
        async with line(small, ()) as whole:
            assert await whole.ask(PROMPTS[1], GREEDY) == alone(small, [(PROMPTS[1], GREEDY)], dtype="fp32")[0]
            host = StageHost(small.digest, small.path, (0, 3), whole.config.engine)
            with pytest.raises(UsageError, match="give no tokens"):
                await whole.asker.offer(GenerateOverStages(small.path, host), role("decode", node="s0"))
            await host.close()

    asyncio.run(run())
