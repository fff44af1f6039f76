"""What a reader sees of an answer, by our own engine and by vLLM: the same tests, over a network in this process.

`make test-vllm` runs this; it needs VLLM_PYTHON (world.py). vLLM is started once.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from ndn_infer.config import CallConfig, Config, EngineConfig, FetchConfig, ProducerConfig
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import CallError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.answer_engine import AnswerEngine
from ndn_infer.functions.decode import Generate
from ndn_infer.functions.engine_host import engine_worker
from ndn_infer.functions.kv_answer import AnsweringHost
from ndn_infer.functions.producer import Producer
from ndn_infer.functions.vllm_answer import VllmHost
from ndn_infer.models.store import ModelFolder
from ndn_infer.records import GenerateRequest, Progress, Sampling, TokenEvent
from ndn_infer.records.grammar import Grammar
from ndn_infer.transport.calls.ask import Ask
from tests.harness import Node, keychain_in, role
from tests.inprocess.test_streams import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="make test-vllm"),
    pytest.mark.timeout(300),
]
BACKENDS = ("own", "vllm")
QUESTION = "<|im_start|>user\nTell me about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"


@dataclass
class World:
    """One producer of each backend, each in a network of its own: names of both would be the same."""

    model: str
    prompt: tuple[int, ...]
    engines: dict[str, AnswerEngine]
    producers: dict[str, tuple[Node, Producer]] = field(default_factory=dict)
    readers: dict[str, Node] = field(default_factory=dict)

    def count(self, backend: str, name: str) -> int:
        return self.producers[backend][0].counters[name]


@dataclass
class Read:
    """One question; `run` reads the answer, or its first `most` tokens, and leaves."""

    world: World
    backend: str
    sampling: Sampling
    before: tuple[int, ...] = ()
    engine: str = ""
    ids: list[int] = field(default_factory=list)
    text: str = ""
    events: list[TokenEvent] = field(default_factory=list)
    news: list[Progress] = field(default_factory=list)

    async def run(self, most: int = 1 << 20) -> Read:
        world, reader = self.world, self.world.readers[self.backend]
        engine = self.engine or str(world.engines[self.backend].engine_class)
        request = GenerateRequest(
            self.sampling, prompt=world.prompt + self.before, engine=engine, answered=len(self.before)
        )
        events = reader.caller.stream(
            Ask(("model", world.model), "generate", request), TokenEvent, on_progress=self.news.append
        )  # fmt: skip
        async with aclosing(events):
            async for event, _ in events:
                self.events.append(event)
                self.ids += event.ids
                self.text += event.text
                if len(self.ids) >= most:
                    break
        return self


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    engine = EngineConfig(threads=1, kv_memory_mib=1024, max_streams=4)
    config = replace(
        Config(), call=replace(CallConfig(), deadline_s=30.0), fetch=replace(FetchConfig(), stream_idle_s=5.0),
        engine=engine, producer=ProducerConfig(kept_s=20.0),
    )  # fmt: skip
    vllm = replace(
        engine, backend="vllm", vllm_python=os.environ.get("VLLM_PYTHON", ""),
        vllm_args='{"enforce_eager": true, "max_model_len": 2048}', vllm_replay=64,
    )  # fmt: skip
    tokenizer = ChatTokenizer.load(smollm2.path)
    made = World(
        smollm2.digest, tuple(tokenizer.encode(QUESTION)),
        {
            "own": AnsweringHost(smollm2.digest, smollm2.path, engine, engine_worker(smollm2.path, engine)),
            "vllm": VllmHost(smollm2.path, vllm),
        },
    )  # fmt: skip
    networks = [MemoryNetwork() for _ in BACKENDS]
    for backend, network in zip(BACKENDS, networks, strict=True):
        keychain = keychain_in(tmp_path_factory.mktemp(backend), "decode", "user")
        producer = await Node(network, keychain, config, asks_as="decode").open()
        reader = await Node(network, keychain, config, asks_as="user").open()
        await reader.registrar.start()
        function = Generate(smollm2.digest, Path(smollm2.path), made.engines[backend])
        made.producers[backend] = producer, await producer.produce(function)
        made.readers[backend] = reader
    yield made
    for backend, network in zip(BACKENDS, networks, strict=True):
        producer, offered = made.producers[backend]
        await offered.close()
        assert producer.server.streams == 0
        await made.readers[backend].close()
        await producer.close()
        network.close()


both = pytest.mark.parametrize("backend", BACKENDS)


@both
async def test_an_answer_has_tokens_text_a_reason_and_a_receipt(world: World, backend: str) -> None:
    read = await Read(world, backend, Sampling(12, ignore_eos=True)).run()
    last = read.events[-1]
    assert len(read.ids) == 12 and last.finish == "length" and last.prompt_tokens == len(world.prompt)
    assert read.text == ChatTokenizer.load(folder_of(world, backend)).decode(read.ids)
    receipt = last.receipt
    assert receipt is not None and receipt.engine == str(world.engines[backend].engine_class)
    assert receipt.output_tokens == 12 and receipt.prompt.total == len(world.prompt)
    assert receipt.prefill_us + receipt.decode_us > 0


def folder_of(world: World, backend: str) -> Path:
    engine = world.producers[backend][1]
    return engine._servers[0].function._folder  # type: ignore[attr-defined]


@both
async def test_a_stop_token_and_a_stop_string_end_it(world: World, backend: str) -> None:
    whole = (await Read(world, backend, Sampling(13, ignore_eos=True)).run()).ids
    stopped = await Read(world, backend, Sampling(13, ignore_eos=True, stop_ids=(whole[5],))).run()
    assert stopped.ids == whole[: whole.index(whole[5]) + 1] and stopped.events[-1].finish == "stop"
    text = (await Read(world, backend, Sampling(14, ignore_eos=True)).run()).text
    word = text[len(text) // 2 :][:5]
    assert word
    cut = await Read(world, backend, Sampling(14, ignore_eos=True, stop=(word,))).run()
    assert cut.text == text[: text.index(word)] and cut.events[-1].stopped_by == word


@both
async def test_what_is_sampled_goes_on_elsewhere_as_it_would_have(world: World, backend: str) -> None:
    sampling = Sampling(
        24, 0.9, 0.9, seed=7, repetition_penalty=1.2, frequency_penalty=0.3, ignore_eos=True, logprobs=2
    )
    whole = await Read(world, backend, sampling).run()
    rest = await Read(world, backend, replace(sampling, max_tokens=15), before=tuple(whole.ids[:9])).run()
    assert whole.ids[9:] == rest.ids
    other = await Read(world, backend, replace(sampling, seed=8)).run()
    assert other.ids != whole.ids
    told = [one for event in whole.events for one in event.logprobs]
    assert len(told) == 24 and all(len(one.top) == 2 and one.logprob <= one.top[0][1] <= 0 for one in told)


@both
async def test_the_prompts_own_tokens_are_scored(world: World, backend: str) -> None:
    read = await Read(world, backend, Sampling(2, logprobs=3, score_prompt=True, ignore_eos=True)).run()
    scored = [one for event in read.events for one in event.prompt]
    assert len(scored) == len(world.prompt) and scored[0].logprob == 0.0
    assert all(len(one.top) == 3 and one.logprob < 0 for one in scored[1:])


async def test_both_tell_nearly_the_same_of_a_prompt(world: World) -> None:
    sampling = Sampling(3, logprobs=1, score_prompt=True, ignore_eos=True)
    one, other = [
        [told.logprob for event in (await Read(world, backend, sampling).run()).events for told in event.prompt]
        for backend in BACKENDS
    ]
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 0.5


@both
async def test_a_prompt_can_be_computed_and_nothing_after_it(world: World, backend: str) -> None:
    read = await Read(world, backend, Sampling(0)).run()
    assert read.ids == [] and read.events[-1].finish == "length"


@both
async def test_equal_questions_are_one_run(world: World, backend: str) -> None:
    before = world.count(backend, "tokens_decoded")
    sampling = Sampling(16, ignore_eos=True)
    reads = await asyncio.gather(*(Read(world, backend, sampling).run() for _ in range(3)))
    assert reads[0].ids == reads[1].ids == reads[2].ids
    assert world.count(backend, "tokens_decoded") == before + 16


@both
async def test_eight_different_questions_at_once_are_all_answered(world: World, backend: str) -> None:
    reads = await asyncio.gather(
        *(Read(world, backend, Sampling(17, 0.8, seed=seed, ignore_eos=True)).run() for seed in range(8))
    )
    assert [len(read.ids) for read in reads] == [17] * 8 and len({tuple(read.ids) for read in reads}) > 4


@both
async def test_who_left_is_not_answered_and_who_comes_back_finds_the_answer(world: World, backend: str) -> None:
    sampling = Sampling(1500, 0.8, seed=3, ignore_eos=True)
    left = await Read(world, backend, sampling).run(20)
    producer = world.producers[backend][0]

    def paused() -> bool:
        return made() == before

    def made() -> int:
        return world.count(backend, "tokens_decoded")

    before = -1
    for _ in range(100):
        before = made()
        await asyncio.sleep(1.0)
        if paused():
            break
    assert paused() and producer.server.streams == 1, "nobody is decoded for nobody"
    back = await Read(world, backend, sampling).run(60)
    assert back.ids[:20] == left.ids[:20] and len(back.ids) >= 60
    await until(lambda: producer.server.streams == 0, 60.0)


@both
async def test_another_engine_class_is_refused_with_the_right_one(world: World, backend: str) -> None:
    mine, others = (str(world.engines[name].engine_class) for name in (backend, *(set(BACKENDS) - {backend})))
    assert mine != others
    with pytest.raises(CallError) as refused:
        await Read(world, backend, Sampling(3), engine=others).run()
    assert (refused.value.code, refused.value.offered) == ("wrong-engine", mine)
    offer = world.producers[backend][1].offered(world.producers[backend][0].keychain.signer_for(role("decode")))
    assert offer.engine == mine and offer.places == 4 and offer.context >= 2048


@both
async def test_a_grammar_is_obeyed_also_by_an_answer_that_goes_on(world: World, backend: str) -> None:
    read = await Read(world, backend, Sampling(30, 1.0, seed=4, grammar=Grammar("choice", choices=("yes", "no")))).run()
    assert read.text in ("yes", "no") and read.events[-1].finish == "stop", read.events[-1].error
    digits = Sampling(40, 1.5, seed=4, ignore_eos=True, grammar=Grammar("regex", "[0-9]{3}-[a-z]{12}"))
    whole = await Read(world, backend, digits).run()
    assert re.fullmatch(r"[0-9]{3}-[a-z]{12}", whole.text) and whole.events[-1].finish == "stop"
    rest = await Read(world, backend, replace(digits, max_tokens=39), before=tuple(whole.ids[:4])).run()
    begun = ChatTokenizer.load(folder_of(world, backend)).decode(whole.ids[:4])
    assert re.fullmatch(r"[0-9]{3}-[a-z]{12}", begun + rest.text)
    with pytest.raises(CallError) as refused:
        await Read(world, backend, Sampling(30, grammar=Grammar("regex", "("))).run()
    assert refused.value.code == "bad-grammar"
