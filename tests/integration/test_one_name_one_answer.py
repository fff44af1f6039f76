"""A name pins its answer: producers whose engines round otherwise never answer one name with two token sequences,
however callers, caches and retries meet (small model of random weights, whose tokens differ between the engines)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer import ndn  # noqa: E402
from ndn_infer.config import Config, EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork  # noqa: E402
from ndn_infer.functions import registry  # noqa: E402
from ndn_infer.functions.producer import Producer  # noqa: E402
from ndn_infer.models.store import ModelFolder  # noqa: E402
from ndn_infer.namespace import Result, parse_base  # noqa: E402
from ndn_infer.records import ModelRecord, Sampling  # noqa: E402
from tests.engine_kit import engine_here  # noqa: E402
from tests.harness import NET, Node, keychain_in  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

MODEL = "cc" * 32
WEIGHTS = ("bf16", "int8", "int4")
ENGINES = {weights: EngineConfig(weights=weights, threads=1) for weights in WEIGHTS}
CLASSES = {engine_here(config): weights for weights, config in ENGINES.items()}
RECORD = ModelRecord("some", MODEL, "causal-lm", "LlamaForCausalLM", 512, 49_152)
PROMPTS = [tuple(range(100 + 40 * number, 150 + 40 * number)) for number in range(3)]
SAMPLINGS = (Sampling(10, ignore_eos=True), Sampling(10, ignore_eos=True, temperature=1.5, seed=7))


@pytest.fixture(scope="module")
def folder(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(
        tmp_path_factory.mktemp("small"), tokenizer_of=smollm2.path, vocab_size=49_152, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[tuple[str, int, int], list[int]]:
    """Tokens by weights, prompt and sampling, each from an engine that does nothing else."""
    made = {}
    for weights, config in ENGINES.items():
        engine = Engine.load(folder, config)
        for prompt, ids in enumerate(PROMPTS):
            for sampling, how in enumerate(SAMPLINGS):
                stream = engine.start(ids, how)
                while stream.finished is None:
                    engine.step()
                made[weights, prompt, sampling] = list(stream.generated)
    return made


@dataclass
class World:
    network: MemoryNetwork
    readers: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)


@asynccontextmanager
async def world(tmp_path: Path, folder: Path, *pinned: str) -> AsyncIterator[World]:
    """Three decode processes of one identity, one for each kind of weights, and a reader for each of `pinned`: an
    engine class, or "" for whatever is offered."""
    network, keychain = MemoryNetwork(), keychain_in(tmp_path / "keys", "decode", "user")
    here = World(network)
    for config in ENGINES.values():
        node = await Node(network, keychain, Config()).open()
        here.nodes.append(node)
        ingredients = registry.Ingredients(replace(Config(), engine=config), MODEL, folder)
        here.producers.append(await node.produce(*registry.build(["decode"], ingredients)))
    for wanted in pinned:
        config = replace(Config(), ask=replace(Config().ask, engine=wanted))
        here.readers.append(await Node(network, keychain, config).open())
    yield here
    for producer in here.producers:
        await producer.close()
    for node in (*here.readers, *here.nodes):
        await node.close()
    network.close()


async def test_no_name_has_two_answers(
    tmp_path: Path, folder: Path, alone: dict[tuple[str, int, int], list[int]]
) -> None:
    """Every reader asks everything, three times over, all at once: first answers, joined ones and cached ones."""
    differing = sum(len({tuple(alone[weights, p, s]) for weights in WEIGHTS}) for p in range(3) for s in range(2))
    assert differing > 12, "the engines differ, or this test says nothing"
    answers: dict[str, set[tuple[int, ...]]] = defaultdict(set)

    async with world(tmp_path, folder, *CLASSES, *CLASSES, "", "") as here:

        async def ask(reader: Node, prompt: int, sampling: int) -> None:
            conversation = reader.conversation()
            answer = conversation.generate(RECORD, PROMPTS[prompt], SAMPLINGS[sampling])
            async for _event in answer:
                pass
            used = conversation.engines.of(MODEL)
            assert answer.ids == alone[CLASSES[used], prompt, sampling], (used, answer.stream_name)
            base, _ = ndn.split_version(ndn.from_uri(answer.stream_name))
            result = parse_base(NET, base)
            assert isinstance(result, Result)
            answers[result.request].add(tuple(answer.ids))

        for _ in range(3):
            everything = [(r, p, s) for r in here.readers for p in range(3) for s in range(2)]
            await asyncio.gather(*(ask(*one) for one in everything))
    assert len(answers) == 18, "one name for each engine class, prompt and sampling"
    assert all(len(different) == 1 for different in answers.values())
