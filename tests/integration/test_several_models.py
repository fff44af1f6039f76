"""Several models in one process, each computed in its own way: engine classes, questions, status (small, random
weights)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn, records  # noqa: E402
from ndn_infer.config import Config, EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.engine_class import WRONG_ENGINE, EngineClass  # noqa: E402
from ndn_infer.errors import CallError, Nacked  # noqa: E402
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork  # noqa: E402
from ndn_infer.functions import registry  # noqa: E402
from ndn_infer.kv.holders import (  # noqa: E402
    HOLDS,
    Holdings,
    HoldsQuery,
)
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.records import ModelRecord, Sampling  # noqa: E402
from ndn_infer.transport.calls.direct import DirectAsk  # noqa: E402
from ndn_infer.transport.trust.presence import (  # noqa: E402
    STATUS,
    ProducerStatus,
    StatusQuery,
)
from tests.engine_kit import engine_here  # noqa: E402
from tests.harness import Node, keychain_in, role  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

A, B = "aa" * 32, "bb" * 32
EXACT, SMALL = EngineConfig(dtype="fp32", threads=1), EngineConfig(weights="int4", threads=1)
ENGINES = {A: EXACT, B: SMALL}
PROMPT = tuple(range(100, 150))
GREEDY = Sampling(12, ignore_eos=True)


@pytest.fixture(scope="module")
def folders(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for seed, digest in enumerate(ENGINES):
        made[digest] = small_model(
            tmp_path_factory.mktemp("small"), tokenizer_of=smollm2.path, seed=seed, vocab_size=49_152,
            intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            max_position_embeddings=512,
        )  # fmt: skip
    return made


def alone(folder: Path, config: EngineConfig) -> list[int]:
    engine = Engine.load(folder, config)
    stream = engine.start(PROMPT, GREEDY)
    while stream.finished is None:
        engine.step()
    return stream.generated


def record(digest: str) -> ModelRecord:
    return ModelRecord("some", digest, "causal-lm", "LlamaForCausalLM", 512, 49_152)


@asynccontextmanager
async def world(tmp_path: Path, folders: dict[str, Path], config: Config) -> AsyncIterator[tuple[Node, Node]]:
    """One process that decodes with both models, and a reader of this configuration."""
    network, keychain = MemoryNetwork(), keychain_in(tmp_path / "keys", "decode", "user")
    producer = await Node(network, keychain, Config()).open()
    reader = await Node(network, keychain, config).open()
    await reader.registrar.start()
    parts = [
        registry.Ingredients(replace(Config(), engine=ENGINES[digest]), digest, folder)
        for digest, folder in folders.items()
    ]
    offered = await producer.produce(*registry.build(["decode"], *parts))
    yield producer, reader
    await offered.close()
    await reader.close()
    await producer.close()
    network.close()


async def test_two_models_with_two_engine_classes_answer_side_by_side(tmp_path: Path, folders: dict[str, Path]) -> None:
    expected = {digest: alone(folders[digest], ENGINES[digest]) for digest in ENGINES}
    async with world(tmp_path, folders, Config()) as (_, reader):
        conversation = reader.conversation()
        answers = {digest: conversation.generate(record(digest), PROMPT, GREEDY) for digest in ENGINES}
        for digest, answer in answers.items():
            async for _event in answer:
                pass
            assert answer.ids == expected[digest]
            assert conversation.engines.of(digest) == engine_here(ENGINES[digest]), "what was offered was taken"

        told = await reader.caller.direct.ask(DirectAsk(role("decode"), STATUS, StatusQuery()), ProducerStatus)
        assert {item.model: item.engine for item in told.record.engines} == {
            digest: engine_here(config) for digest, config in ENGINES.items()
        }
        assert told.signed_by.identity == role("decode")


async def test_a_class_that_nobody_offers_is_refused_with_the_next_step(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    wanted = engine_here(replace(SMALL, weights="int8"))
    config = replace(Config(), ask=replace(Config().ask, engine=wanted))
    async with world(tmp_path, folders, config) as (_, reader):
        with pytest.raises(CallError) as caught:
            async for _event in reader.conversation().generate(record(B), PROMPT, GREEDY):
                pass
    offered = engine_here(SMALL)
    assert (caught.value.code, caught.value.offered) == (WRONG_ENGINE, offered)
    assert str(caught.value) == f"this producer computes as engine class {offered}, not {wanted}"
    assert f"--set ask.engine={offered}" in caught.value.hint


async def test_holdings_of_each_model_are_told_under_the_one_identity(tmp_path: Path, folders: dict[str, Path]) -> None:
    """KV of prompts has the names of the class that prompts follow; an int4 engine publishes nothing it decoded."""
    async with world(tmp_path, folders, Config()) as (producer, reader):
        for digest, engine in ENGINES.items():
            async for _event in reader.conversation().generate(record(digest), PROMPT, GREEDY):
                pass
            bases = [ndn.to_uri(base) for base in producer.server.store.bases() if digest in ndn.to_uri(base)]
            codec = f"raw.{EngineClass.parse(engine_here(engine)).prompts}"
            kv = [base.split("/") for base in bases if "/kv/" in base]
            assert {parts[-3] for parts in kv} == {codec}
            assert len(kv) == (len(PROMPT) + (11 if digest == A else 0)) // 16
            tags = b"".join(bytes.fromhex(parts[-2])[:8] for parts in kv) + bytes(8)
            query = HoldsQuery(digest, "public", codec, "0-1", tags)
            told = await reader.caller.direct.ask(DirectAsk(role("decode"), HOLDS, query), Holdings)
            versions = [told.record.versions[at : at + 8] for at in range(0, len(tags), 8)]
            assert all(any(version) for version in versions[:-1]) and not any(versions[-1])
        stranger = replace(query, model="cc" * 32)
        with pytest.raises(Nacked):
            await reader.caller.direct.ask(DirectAsk(role("decode"), HOLDS, stranger), Holdings)
        with pytest.raises(CallError) as caught:
            await reader.caller.direct.ask(DirectAsk(role("decode"), HOLDS, replace(query, tags=b"x")), Holdings)
        assert caught.value.code == "bad-request" and "8 bytes each" in str(caught.value)
        assert records.decode(HoldsQuery, records.encode(query)) == query
