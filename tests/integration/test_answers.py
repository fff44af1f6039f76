"""Answers of a real engine (small, random weights) over a real forwarder core: no work for nobody, waiting is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.config import CallConfig, Config, EngineConfig, FetchConfig, ProducerConfig  # noqa: E402
from ndn_infer.engine.engine import Engine, Stream  # noqa: E402
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork  # noqa: E402
from ndn_infer.functions.decode import Generate  # noqa: E402
from ndn_infer.functions.engine_worker import EngineWorker  # noqa: E402
from ndn_infer.functions.kv_answer import AnsweringHost  # noqa: E402
from ndn_infer.functions.producer import Producer  # noqa: E402
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.records import GenerateRequest, Progress, Sampling, TokenEvent  # noqa: E402
from ndn_infer.transport.calls.ask import Ask  # noqa: E402
from ndn_infer.wire import readership, rhythm  # noqa: E402
from ndn_infer.wire.readership import Readership  # noqa: E402
from tests.engine_kit import engine_here  # noqa: E402
from tests.harness import Node, keychain_in, role  # noqa: E402
from tests.inprocess.test_streams import until  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

MODEL = "ef" * 32
CONTEXT = 8192


@pytest.fixture(scope="module")
def folder(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, of more rows than the tokenizer knows."""
    return small_model(
        tmp_path_factory.mktemp("small"), tokenizer_of=smollm2.path, vocab_size=49_152 + 64, hidden_size=32,
        intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip


@dataclass
class World:
    producer: Node
    offered: Producer
    reader: Node

    @property
    def decoded(self) -> int:
        return self.producer.counters["tokens_decoded"]

    @property
    def status(self) -> tuple[int, int]:
        status = self.offered.status(role("decode"))
        return status.running, status.queue


@asynccontextmanager
async def world(
    keys: Path, folder: Path, kept_s: float = 30.0, records: str = "on", **engine: Any
) -> AsyncIterator[World]:
    config = replace(
        Config(), call=replace(CallConfig(), deadline_s=20.0), fetch=replace(FetchConfig(), stream_idle_s=3.0),
        engine=EngineConfig(dtype="fp32", threads=1, **engine),
        producer=ProducerConfig(kept_s=kept_s, records=records),
    )  # fmt: skip
    network, keychain = MemoryNetwork(), keychain_in(keys, "decode", "user")
    producer = await Node(network, keychain, config, asks_as="decode").open()
    reader = await Node(network, keychain, config, asks_as="user").open()
    await reader.registrar.start()
    offered = await producer.produce(Generate(MODEL, folder, AnsweringHost(MODEL, folder, config.engine)))
    yield World(producer, offered, reader)
    await offered.close()
    assert producer.server.streams == 0
    await reader.close()
    await producer.close()
    network.close()


@dataclass
class Asking:
    """One question; `run` reads the answer, or its first `most` tokens, and leaves."""

    world: World
    prompt: tuple[int, ...]
    max_tokens: int
    seed: int = 0
    ids: list[int] = field(default_factory=list)
    news: list[Progress] = field(default_factory=list)
    last: TokenEvent | None = None

    async def run(self, most: int = CONTEXT, each: Callable[[], Any] | None = None) -> Asking:
        sampling = Sampling(self.max_tokens, 0.8, seed=self.seed, ignore_eos=True)
        request = GenerateRequest(sampling, prompt=self.prompt, engine=engine_here(self.world.reader.config.engine))
        events = self.world.reader.caller.stream(
            Ask(("model", MODEL), "generate", request), TokenEvent, on_progress=self.news.append
        )  # fmt: skip
        async with aclosing(events):
            async for event, _ in events:
                self.ids += event.ids
                self.last = event
                if len(self.ids) >= most:
                    break
                if each is not None:
                    await each()
        return self


async def test_who_left_is_not_answered_and_holds_nobody_up(tmp_path: Path, folder: Path) -> None:
    """As many long answers as there are places, all left after their first words; then another question."""
    async with world(tmp_path, folder, kept_s=2.0, max_streams=2, queue_limit=4) as w:
        asked = [Asking(w, (5, 6, 7 + number), 8000) for number in range(3)]
        tasks = [asyncio.create_task(one.run()) for one in asked]
        await until(lambda: sum(len(one.ids) >= 20 for one in asked) >= 2, 60.0)
        assert w.status == (2, 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        done = await asyncio.wait_for(Asking(w, (9, 9), 5).run(), 30.0)
        assert len(done.ids) == 5 and done.last is not None and done.last.finish == "length"
        decoded = w.decoded
        assert decoded < 3 * 8000, "nobody decoded to the end"
        await asyncio.sleep(1.0)
        assert w.decoded == decoded, "nobody is decoded for nobody"
        await until(lambda: w.status == (0, 0) and w.producer.server.streams == 0, 30.0)
        assert w.producer.counters["abandoned"] == 3


async def test_nothing_is_decoded_once_the_last_interest_ran_out_and_who_comes_back_finds_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However quick or slow the machine: counted in tokens, at the moment at which the engine is told."""
    signs: list[tuple[float, float, float]] = []
    told, stopped = [], []
    asked, tell, stop = Readership.asked, EngineWorker.pause, Engine.pause

    def on_sign(readers: Readership, now: float, expires: float) -> None:
        asked(readers, now, expires)
        signs.append((now, expires, readers.next_change(now)))

    def on_tell(worker: EngineWorker, stream: Stream, paused: bool = True) -> None:
        told.append(len(stream.generated))
        tell(worker, stream, paused)

    def on_stop(engine: Engine, stream: Stream, paused: bool = True) -> None:
        stop(engine, stream, paused)
        stopped.append((paused, len(stream.generated), engine.counters.tokens_decoded))

    async with world(tmp_path, folder) as w:
        whole = (await Asking(w, (5, 6), 401, seed=1).run(400)).ids
        await until(lambda: w.status == (0, 0))
        monkeypatch.setattr(Readership, "asked", on_sign)
        monkeypatch.setattr(EngineWorker, "pause", on_tell)
        monkeypatch.setattr(Engine, "pause", on_stop)
        left = await Asking(w, (5, 6), 8000, seed=1).run(20)
        await until(lambda: bool(stopped), 30.0)
        last, expires, pauses_at = signs[-1]
        assert pauses_at <= expires + 0.51 and expires <= last + 1.01, "a second and a half after the last Interest"
        paused, made, counted = stopped[0]
        assert paused and len(left.ids) <= made < 8000 and made - told[0] <= 2, "the step that was being computed"
        await asyncio.sleep(1.0)
        assert stopped == [(True, made, counted)] and w.status == (1, 0)
        back = await Asking(w, (5, 6), 8000, seed=1).run(max(400, made + 40))  # past what is there: for that it decodes
        assert back.ids[:400] == whole[:400] and stopped[1] == (False, made, counted), "not one token meanwhile"


async def test_a_reader_that_pauses_gets_the_answer_of_one_that_does_not(tmp_path: Path, folder: Path) -> None:
    """A terminal that is held up asks for nothing; the answer waits for it."""
    async with world(tmp_path, folder) as w:
        once = (await Asking(w, (5, 6), 300, seed=1).run()).ids
        held = 0

        async def hold_up() -> None:
            nonlocal held
            if held < 1 and len(slow.ids) > 10:
                held += 1
                await asyncio.sleep(readership.READ_S + 1.5)

        slow = Asking(w, (5, 6), 600, seed=1)
        assert (await slow.run(each=hold_up)).ids[:300] == once and held == 1 and len(slow.ids) == 600


async def test_a_long_prompt_and_a_queue_are_not_given_up(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts that take longer than readers wait in silence, behind an answer that holds the one place until it is
    left; padded rows win at times."""
    monkeypatch.setattr(rhythm, "NEWS_S", 0.05)  # a quick machine has no second in which one of them waits
    async with world(tmp_path, folder, max_streams=1, chunk_tokens=16) as w:
        first = Asking(w, (5, 6), CONTEXT - 2)
        holds = asyncio.create_task(first.run())
        await until(lambda: len(first.ids) > 0, 60.0)
        prompt = tuple(3 + (7 * at) % 1000 for at in range(CONTEXT - 2))
        asked = [Asking(w, (other, *prompt[1:]), 2) for other in range(3, 6)]
        tasks = [asyncio.create_task(each.run()) for each in asked]
        await until(lambda: all(any(news.state == "queued" for news in each.news) for each in asked), 60.0)
        assert not holds.done(), "they waited for it"
        holds.cancel()
        await asyncio.gather(*tasks)
        assert [len(each.ids) for each in asked] == [2] * 3
        done = [news.done_blocks for news in asked[0].news if news.state == "prefill"]
        assert done == sorted(done) and done[-1] > 0
        assert {news.total_blocks for news in asked[0].news if news.state == "prefill"} == {(CONTEXT - 2) // 16}


async def test_a_producer_that_is_alone_asks_once_for_each_block_and_does_not_wait(
    tmp_path: Path, folder: Path
) -> None:
    """No route leads to others: the first Nack is believed for KV, the second for prefill."""
    asked: Counter[str] = Counter()

    def trace(kind: str, name: bytes, _: object) -> None:
        uri = ndn.to_uri(name)
        asked.update([part for part in ("/kv/", "/prefill/") if kind == "interest" and part in uri])

    async with world(tmp_path, folder) as w:
        w.producer.endpoint.trace = trace
        assert len((await Asking(w, tuple(range(5, 5 + 50)), 4).run()).ids) == 4
        assert asked == {"/kv/": 3, "/prefill/": 2}
