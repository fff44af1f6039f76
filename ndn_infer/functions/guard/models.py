"""Rules that models of the network decide: how near a text is to a topic, what a classifier says of it.

Owns: those calls, and what their answers mean for a rule. Must not know: verdicts, how a text came.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np

from ndn_infer import records
from ndn_infer.errors import BadRecord
from ndn_infer.functions.base import Host
from ndn_infer.guard.judge import PolicyRules, RuleHit, whole_hits
from ndn_infer.guard.policy import ClassifierRule, GuardRule, TopicRule
from ndn_infer.namespace import CatalogRecord
from ndn_infer.records import ModelRecord
from ndn_infer.records.classify import ClassifyRequest, Scores
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.tensors import decode_tensor
from ndn_infer.transport.calls.ask import Ask

MOST_KEPT: Final = 64
_DIGEST: Final = 64


class NetworkModels:
    """`host` calls them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._digests: dict[str, str] = {}
        self._examples: OrderedDict[tuple[str, tuple[str, ...], str], np.ndarray] = OrderedDict()

    async def hits(self, rules: PolicyRules, text: str, domain: str) -> list[RuleHit]:
        """Of the rules that a model decides, those that `text` hits. Calls are made in `domain`. Raises what calls
        raise: a rule that cannot be asked is never taken as kept."""
        found: list[GuardRule] = []
        if not text.strip():
            return []
        for rule in rules.whole:
            hit = self._topic(rule, text, domain) if isinstance(rule, TopicRule) else self._class(rule, text, domain)
            if await hit:
                found.append(rule)
        return whole_hits(found, len(text))

    async def _topic(self, rule: TopicRule, text: str, domain: str) -> bool:
        embedder = await self._digest(rule.embedder or self._host.config.ask.embedder)
        examples = await self._vectors(embedder, rule.examples, domain)
        (vector,) = await self._embedded(embedder, (text,), domain)
        near = float(np.max(examples @ vector)) >= rule.similarity
        return near is rule.deny

    async def _class(self, rule: ClassifierRule, text: str, domain: str) -> bool:
        subject = ("model", await self._digest(rule.model))
        scores = await self._host.caller.call(Ask(subject, "classify", ClassifyRequest((text,)), domain), Scores)
        if rule.label not in scores.labels or len(scores.rows) != 1 or len(scores.rows[0].values) != len(scores.labels):
            raise BadRecord(
                f"classifier {rule.model} has no label {rule.label!r}; labels are {', '.join(scores.labels)}"
            )
        return scores.rows[0].values[scores.labels.index(rule.label)] >= rule.above

    async def _vectors(self, embedder: str, texts: tuple[str, ...], domain: str) -> np.ndarray:
        key = (embedder, texts, domain)
        if key not in self._examples:
            self._examples[key] = await self._embedded(embedder, texts, domain)
            while len(self._examples) > MOST_KEPT:
                self._examples.popitem(last=False)
        return self._examples[key]

    async def _embedded(self, embedder: str, texts: Sequence[str], domain: str) -> np.ndarray:
        ask = Ask(("model", embedder), "embed", EmbedRequest(texts=tuple(texts)), domain)
        raw = decode_tensor((await self._host.caller.call(ask, TensorRecord)).tensor)
        if raw.dtype != "f32" or len(raw.shape) != 2 or raw.shape[0] != len(texts):
            raise BadRecord(f"embed answered with {raw.dtype} {raw.shape} to {len(texts)} texts")
        return np.frombuffer(raw.payload, dtype="<f4").reshape(raw.shape)

    async def _digest(self, alias: str) -> str:
        """What the operator says that an alias means."""
        if len(alias) == _DIGEST:
            return alias
        if alias not in self._digests:
            base = CatalogRecord("model", alias.replace("/", "--")).to_name(self._host.net)
            fetched = await self._host.fetcher.fetch(base)
            self._digests[alias] = records.decode(ModelRecord, fetched.content).digest
        return self._digests[alias]
