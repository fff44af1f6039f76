"""What policies and aliases cost to look up, and how long they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ndn_infer import ndn, records
from ndn_infer.client.policies import find_policy
from ndn_infer.config import Config, FetchConfig
from ndn_infer.errors import BadRecord
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.guard.models import NetworkModels
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.policy_form import policy_of
from ndn_infer.namespace import CatalogRecord, PolicyObject, operator_identity
from ndn_infer.records import ModelRecord
from ndn_infer.records.classify import ClassifyRequest, ScoreRow, Scores
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects import discovery
from ndn_infer.wire.manifest import build_object
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
    keychain, network = keychain_in(tmp_path / "keys", "guard", "classify", "user"), MemoryNetwork()
    serving, asking = [await Node(network, keychain, CONFIG).open() for _ in range(2)]
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
