"""What policies and aliases cost to look up, and how long they hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ndn_infer import ndn, records
from ndn_infer.client.policies import find_policy
from ndn_infer.config import Config, FetchConfig
from ndn_infer.errors import BadRecord
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.guard import models as guard_models
from ndn_infer.functions.guard.models import MOST_CALLS, NetworkModels, readings
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.guard.judge import PolicyRules, TextJudge
from ndn_infer.guard.policy_form import policy_of
from ndn_infer.namespace import CatalogRecord, PolicyObject, operator_identity
from ndn_infer.records import Message, ModelRecord
from ndn_infer.records.classify import MAX_TEXTS, ClassifyRequest, ScoreRow, Scores
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.security.domains import PUBLIC
from ndn_infer.tensors import RawTensor, encode_tensor
from ndn_infer.transport.objects import discovery
from ndn_infer.wire.manifest import build_object
from tests.guard_kit import MODEL, guarded, told
from tests.harness import NET, Node, keychain_in

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

CONFIG = replace(Config(), fetch=replace(FetchConfig(), deadline_s=3.0, lifetime_ms=500))
DIGEST = "cd" * 32
LARGE = bytes(3 << 20)


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Node, Node]]:
    """Who serves, who asks."""
    monkeypatch.setattr(discovery, "METADATA_PAUSES_S", (0.0,) * 3)
    keychain, network = keychain_in(tmp_path / "keys", "guard", "classify", "embed", "user"), MemoryNetwork()
    serving, asking = [await Node(network, keychain, CONFIG, asks_as="guard").open() for _ in range(2)]
    asking.validator.add_certificates(*keychain.certificates())
    yield serving, asking
    for node in (asking, serving):
        await node.close()
    network.close()


async def serve(node: Node, base: ndn.Name, content: bytes, *, version: int = 1_000_000, freshness_ms: int) -> None:
    signer = node.keychain.signer_for(operator_identity(NET))
    node.server.put(build_object(base, version, content, signer.sign_data, freshness_ms=freshness_ms), pinned=True)
    node.server.serve(base, signer)
    await node.registrar.register(base)


async def test_of_what_is_too_large_for_a_policy_nothing_is_fetched(nodes: tuple[Node, Node]) -> None:
    serving, asking = nodes
    for base in (PolicyObject(DIGEST), CatalogRecord("policy", "house")):
        await serve(serving, base.to_name(NET), LARGE, freshness_ms=1000)
    job: Any = SimpleNamespace(host=asking.new_host(), envelope=SimpleNamespace(caller=""))
    for looking in (
        find_policy("house", asking.joined), find_policy(DIGEST, asking.joined),
        ReadyPolicies().rules(DIGEST, b"", "prompt", job),
    ):  # fmt: skip
        with pytest.raises(BadRecord, match="are the most"):
            await looking
    assert asking.fetcher.stats.received <= 6  # what says how large it is, from a cache and past it


class Mood(NamedFunction[ClassifyRequest]):
    """To which every text is as bad as it is told."""

    function = role = "classify"
    request_type = ClassifyRequest

    def __init__(self, digest: str, bad: float) -> None:
        self.subject, self.bad = ("model", digest), bad

    async def run(self, request: ClassifyRequest, job: Job) -> Scores:
        return Scores(("good", "bad"), tuple(ScoreRow((1 - self.bad, self.bad)) for _ in request.texts))


RULES = PolicyRules(
    policy_of({"name": "a", "rules": [{"id": "mood", "kind": "classifier", "model": "mood", "labels": ["bad"]}]}),
    "prompt",
)


@pytest.mark.parametrize(("freshness_ms", "after"), [(1, []), (600_000, ["mood"])])
async def test_an_alias_means_what_the_operator_says_as_long_as_his_record_is_fresh(
    nodes: tuple[Node, Node], freshness_ms: int, after: list[str]
) -> None:
    serving, asking = nodes
    producer = await serving.produce(Mood("11" * 32, 1.0), Mood("22" * 32, 0.0))
    models, base = NetworkModels(asking.new_host()), CatalogRecord("model", "mood").to_name(NET)

    async def signed(digest: str, version: int) -> None:
        record = ModelRecord("mood", digest, "text-classifier", "linear", 2, 1)
        await serve(serving, base, records.encode(record), version=version, freshness_ms=freshness_ms)

    async def hit() -> list[str]:
        return [one.rule.id for one in await models.hits(RULES, "a text", PUBLIC.label)]

    await signed("11" * 32, 1_000_000)
    assert await hit() == ["mood"]
    await signed("22" * 32, 2_000_000)
    await asyncio.sleep(0.01)  # longer than the short freshness
    assert await hit() == after
    await producer.close()


class Boats(NamedFunction[EmbedRequest]):
    """An embedder that reads 250 characters."""

    function = role = "embed"
    request_type = EmbedRequest
    subject = ("model", "33" * 32)
    runs = 0

    async def run(self, request: EmbedRequest, job: Job) -> TensorRecord:
        self.runs += 1
        vectors = np.zeros((len(request.texts), 2), "<f4")
        cut = sum(len(text) > 250 for text in request.texts)
        return TensorRecord(encode_tensor(RawTensor("f32", vectors.shape, vectors.tobytes())), 0, cut)


@pytest.mark.parametrize(("characters", "most"), [(1_000_000, 1), (200_000, 1 + MOST_CALLS)])
async def test_a_text_that_takes_too_many_calls_is_not_judged(
    nodes: tuple[Node, Node], characters: int, most: int
) -> None:
    embedder = Boats()
    producer = await nodes[0].produce(embedder)
    topic = {"id": "boats", "kind": "topics", "examples": ["boats"], "embedder": "33" * 32}
    rules = PolicyRules(policy_of({"name": "a", "rules": [topic]}), "prompt")
    with pytest.raises(BadRecord, match="more than a model is asked about"):
        await NetworkModels(nodes[1].new_host()).hits(
            rules, "".join(map(chr, range(32, 127))) * (characters // 95), PUBLIC.label
        )
    assert embedder.runs <= most
    await producer.close()


@pytest.mark.parametrize("text", ["a" * 700_000, "\u00e9" * 400_000])
def test_what_a_classifier_would_be_asked_about_is_bounded(text: str) -> None:
    with pytest.raises(BadRecord, match="more than a model is asked about"):
        readings(text)
    assert len(readings(text[:300_000])) <= MAX_TEXTS * MOST_CALLS


async def test_texts_are_folded_and_patterns_looked_for_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set[int]()

    def watched(work: Any) -> Any:
        def watching(*given: Any, **named: Any) -> Any:
            threads.add(threading.get_ident())
            return work(*given, **named)

        return watching

    monkeypatch.setattr(guard_models, "folded", watched(guard_models.folded))
    monkeypatch.setattr(TextJudge, "_looked", watched(TextJudge._looked))
    begun = '[[rules]]\nid = "long"\nkind = "pattern"\npattern = "a{1,200}b"\n'
    mood = f'[[rules]]\nid = "mood"\nkind = "classifier"\nmodel = "{"22" * 32}"\nlabels = ["bad"]\n'
    for rule in (begun, begun + mood):
        async with guarded(tmp_path, 'name = "test"\nhold_back = 2\n' + rule, Mood("22" * 32, 0.0)) as w:
            assert await w.conversation.tokenize(MODEL, [Message("user", "a text")])
            await told(w, ["a", "a", "a", "a", "a", "."], w.answer())
    assert threads and threading.get_ident() not in threads
