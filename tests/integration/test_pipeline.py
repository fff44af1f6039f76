"""A pipeline of stages over the real forwarder core: the tokens of one engine, whatever happens to a stage."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.config import CallConfig, Config, EngineConfig, ProducerConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.engine_class import WRONG_ENGINE  # noqa: E402
from ndn_infer.errors import CallError, NdnInferError, UsageError  # noqa: E402
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork  # noqa: E402
from ndn_infer.functions.base import NamedFunction  # noqa: E402
from ndn_infer.functions.pipeline import GenerateOverStages  # noqa: E402
from ndn_infer.functions.producer import Producer  # noqa: E402
from ndn_infer.functions.stage import RunStage  # noqa: E402
from ndn_infer.functions.stage_host import StageHost  # noqa: E402
from ndn_infer.functions.stage_steps import (  # noqa: E402
    NO_KV,
    SERVICE,
    StageReport,
    StageRequest,
    Step,
    function_before,
)
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.namespace import activations_prefix  # noqa: E402
from ndn_infer.records import GenerateRequest, Sampling, TokenEvent, TokenLogprobs, grammar  # noqa: E402
from ndn_infer.security.keychain import Keychain  # noqa: E402
from ndn_infer.transport.calls.ask import Ask  # noqa: E402
from ndn_infer.transport.calls.caller import ResultLost  # noqa: E402
from ndn_infer.transport.calls.candidates import Candidate, Said  # noqa: E402
from ndn_infer.transport.link.links import Link  # noqa: E402
from ndn_infer.wire import readership  # noqa: E402
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES  # noqa: E402
from tests.daemons import run_network  # noqa: E402
from tests.engine_kit import engine_here  # noqa: E402
from tests.harness import NET, Node, role  # noqa: E402
from tests.inprocess.test_streams import until  # noqa: E402

pytestmark = pytest.mark.model

CHUNK = 32
LAYERS = 6
CUTS = {"two": (3,), "three": (1, 4)}
GREEDY = Sampling(max_tokens=12, ignore_eos=True)
TOWN: dict[str, Any] = {"type": "object", "properties": {"town": {"enum": ["Rome", "Bonn"]}, "size": {"type": "integer",
                        "maximum": 99}}, "required": ["town", "size"], "additionalProperties": False}  # fmt: skip
SAMPLED = Sampling(max_tokens=12, ignore_eos=True, temperature=0.9, top_p=0.9, seed=7, repetition_penalty=1.2)
PROMPTS = [[(7919 * n + 11) % 1000 for n in range(length)] for length in (1, 9, 32, 33, 75)]


@dataclass(frozen=True)
class Model:
    """Where a model lies, and its name in the network."""

    path: Path
    digest: str
    layers: int = LAYERS


@pytest.fixture(scope="module")
def small(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights with the tokenizer of the real model."""
    folder = tmp_path_factory.mktemp("small")
    for file in smollm2.path.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return Model(folder, "ab" * 32)


class Peer(Node):
    """A node of one function."""

    def __init__(self, network: MemoryNetwork, keychain: Keychain, config: Config, *, delay_s: float = 0.0) -> None:
        super().__init__(network, keychain, config)
        self._delay_s = delay_s
        self.producer: Producer | None = None

    async def _dial(self) -> Link:
        link = self.network.attach(delay_s=self._delay_s)
        self.links.append(link)
        return link

    async def offer(self, function: NamedFunction[Any], identity: ndn.Name) -> None:
        host = self.host = self.new_host()
        self.function = function
        self.validator.add_certificates(*self.keychain.certificates())
        self.producer = Producer(host, self.keychain, self.registrar)
        await self.producer.offer(function, self.keychain.signer_for(identity))

    async def close(self) -> None:
        if self.producer is not None:
            await self.producer.close()
        await super().close()


class Line:
    """Stages of one model, the node that generates, and somebody who asks."""

    def __init__(self, folder: Model, config: Config, cut: Sequence[int], delay_s: float) -> None:
        self.folder, self.config, self.delay_s = folder, config, delay_s
        edges = [0, *cut, folder.layers]
        self.ranges = [(first, end - 1) for first, end in zip(edges, edges[1:], strict=False)]
        self.network = MemoryNetwork()
        self.peers: list[Peer] = []

    async def begin(self, keys: Path, *, signed_by: str = "stage") -> None:
        self.keychain = Keychain.open_or_create(keys, NET)
        names = [f"s{number}" for number in range(len(self.ranges))]
        identities = [role(label, node=name) for name in names for label in ("stage", "decode", "user")]
        self.keychain.ensure(NET + ndn.generic("operator"), *identities)
        for number in range(len(self.ranges)):
            self.peers.append(await self.start(number, signed_by=signed_by))
        self.asker = await self.join()

    async def join(self) -> Peer:
        peer = Peer(self.network, self.keychain, self.config, delay_s=self.delay_s)
        await peer.open()
        peer.validator.add_certificates(*self.keychain.certificates())
        return peer

    async def start(self, number: int, *, signed_by: str = "stage") -> Peer:
        peer = await self.join()
        last = number == len(self.ranges) - 1
        host = StageHost(self.folder.digest, self.folder.path, self.ranges[number], self.config.engine)
        peer.stages = host  # type: ignore[attr-defined]
        function = GenerateOverStages(self.folder.path, host) if last else RunStage(host)
        await peer.offer(function, role("decode" if last else signed_by, node=f"s{number}"))
        return peer

    async def restart(self, number: int) -> None:
        await self.peers[number].close()
        self.peers[number] = await self.start(number)

    def counter(self, number: int, name: str) -> int:
        return self.peers[number].host.counters[name]

    async def events(
        self, prompt: Sequence[int], sampling: Sampling, *, answered: int = 0
    ) -> AsyncIterator[TokenEvent]:  # fmt: skip
        request = GenerateRequest(
            sampling, tuple(prompt), engine=engine_here(self.config.engine), answered=answered
        )  # fmt: skip
        subject = ("model", self.folder.digest)
        async for event, _ in self.asker.caller.stream(Ask(subject, "generate", request), TokenEvent):
            yield event

    async def say(self, prompt: Sequence[int], sampling: Sampling, *, answered: int = 0) -> list[tuple[int, float]]:
        """Tokens and their log probabilities."""
        said: list[tuple[int, float]] = []
        async for event in self.events(prompt, sampling, answered=answered):
            assert event.finish != "error", event.error
            said += zip(event.ids, [told.logprob for told in event.logprobs], strict=True)
        return said

    async def ask(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        ids: list[int] = []
        async for event in self.events(prompt, sampling):
            assert event.finish != "error", event.error
            ids += event.ids
        return ids


@asynccontextmanager
async def line(
    folder: Model, cut: Sequence[int], *, dtype: str = "fp32", delay_s: float = 0.0, signed_by: str = "stage",
    deadline_s: float = 30.0, **options: Any,
) -> AsyncIterator[Line]:  # fmt: skip
    engine = EngineConfig(dtype=dtype, chunk_tokens=CHUNK, **options)
    config = replace(
        Config(), engine=engine, call=replace(CallConfig(), deadline_s=deadline_s), producer=ProducerConfig(event_ms=0)
    )
    made = Line(folder, config, cut, delay_s)
    with tempfile.TemporaryDirectory() as keys:
        try:
            await made.begin(Path(keys), signed_by=signed_by)
            yield made
            await made.asker.close()
        finally:
            for peer in made.peers:
                await peer.close()
            made.network.close()


def alone(folder: Model, asked: Sequence[tuple[Sequence[int], Sampling]], **options: Any) -> list[list[int]]:
    """The tokens of one engine that has the whole model."""
    engine = Engine.load(folder.path, EngineConfig(chunk_tokens=CHUNK, **options))
    found = []
    for prompt, sampling in asked:
        params = Sampling(
            max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
            seed=sampling.seed, repetition_penalty=sampling.repetition_penalty, grammar=sampling.grammar,
        )  # fmt: skip
        stream = engine.start(prompt, params)
        while stream.finished is None:
            engine.step()
        found.append(stream.generated)
    return found


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
            assert len(gone) == 3 + GREEDY.max_tokens - 1
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
            fetched = await stages.asker.fetcher.fetch(base, most=MAX_OBJECT_BYTES)
            assert fetched.signed_by.identity == role("stage", node="s0")
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
