"""Rules that models of the network decide: how near a text is to a topic, what a classifier says of it.

Owns: those calls, and what their answers mean for a rule. Must not know: verdicts, how a text came.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np

from ndn_infer import clock, records
from ndn_infer.errors import BadRecord
from ndn_infer.functions.base import Host
from ndn_infer.functions.embedding import EMBED_BATCH, Embedding
from ndn_infer.guard.judge import PolicyRules, RuleHit, whole_hits
from ndn_infer.guard.normal import folded
from ndn_infer.guard.policy import ClassifierRule, GuardRule, TopicRule
from ndn_infer.namespace import CatalogRecord
from ndn_infer.records import ModelRecord
from ndn_infer.records.classify import MAX_TEXTS, ClassifyRequest, Scores
from ndn_infer.transport.calls.ask import Ask

MOST_KEPT: Final = 64
MOST_CALLS: Final = 16
"""Calls about one text for one rule. A text that takes more is not judged: about 340,000 characters for a classifier,
500,000 for a topic."""
PART: Final = 600
"""Characters of a text that are compared with examples at once: an embedder reads 256 tokens or more."""
SENTENCE: Final = 200
"""Characters that a classifier is asked about at once: what stands before and behind an attack lowers its scores."""
LEAST_PART: Final = 66
_DIGEST: Final = 64


class NetworkModels:
    """`host` calls them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._digests: OrderedDict[str, tuple[float, str]] = OrderedDict()
        """Until when each is kept, and what it means."""
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
        """Part by part, as models read no more than the beginning of what is longer: what is denied may stand in any
        part, and each part has to be of what is allowed."""
        embedder = await self._digest(rule.embedder or self._host.config.ask.embedder)
        embedding = Embedding(self._host.caller, embedder, domain)
        search = _TopicSearch(embedding, await self._examples_of(rule, embedding), MOST_CALLS)
        near = await search.nearness(text, PART)
        return max(near) >= rule.similarity if rule.deny else min(near) < rule.similarity

    async def _class(self, rule: ClassifierRule, text: str, domain: str) -> bool:
        """One of its readings is enough."""
        subject = ("model", await self._digest(rule.model))
        texts = await asyncio.to_thread(readings, text)
        for first in range(0, len(texts), MAX_TEXTS):
            asked = tuple(texts[first : first + MAX_TEXTS])
            scores = await self._host.caller.call(Ask(subject, "classify", ClassifyRequest(asked), domain), Scores)
            places = _places(rule, scores, len(asked))
            if any(sum(row.values[place] for place in places) >= rule.above for row in scores.rows):
                return True
        return False

    async def _examples_of(self, rule: TopicRule, embedding: Embedding) -> np.ndarray:
        key = (embedding.model, rule.examples, embedding.domain)
        if (kept := self._examples.get(key)) is None:
            kept = self._examples[key] = await embedding.vectors(list(rule.examples))
            while len(self._examples) > MOST_KEPT:
                self._examples.popitem(last=False)
        return kept

    async def _digest(self, alias: str) -> str:
        """What the operator says that an alias means, as long as his record may be taken for the newest."""
        if len(alias) == _DIGEST:
            return alias
        until, digest = self._digests.get(alias, (0.0, ""))
        if not digest or clock.monotonic() >= until:
            base = CatalogRecord("model", alias.replace("/", "--")).to_name(self._host.net)
            fetched = await self._host.fetcher.fetch(base, most=records.most_bytes(ModelRecord))
            digest = records.decode(ModelRecord, fetched.content).digest
            self._digests[alias] = clock.monotonic() + fetched.fresh_s, digest
            self._digests.move_to_end(alias)
            while len(self._digests) > MOST_KEPT:
                self._digests.popitem(last=False)
        return digest


def readings(text: str) -> list[str]:
    """What a classifier is asked about: the text as it stands and as it is folded, part by part. Raises BadRecord for
    one that is too long. Takes a microsecond for each character."""
    found: list[str] = []
    for fold in (str, folded):  # a text that is too long is not folded
        said = fold(text)
        if not found or said != text:
            found += [said[part] for part in parts_of(said, SENTENCE)]
        _check_calls(len(found), MAX_TEXTS * MOST_CALLS, text)
    return found


def _check_calls(parts: int, most: int, text: str) -> None:
    if parts > most:
        raise BadRecord(f"a text of {len(text)} characters is more than a model is asked about: {most} parts at most")


def _places(rule: ClassifierRule, scores: Scores, texts: int) -> list[int]:
    """Columns of the rule's labels. Raises BadRecord for scores that do not fit rule or texts."""
    if len(scores.rows) != texts or any(len(row.values) != len(scores.labels) for row in scores.rows):
        raise BadRecord(f"classifier {rule.model} answered with {len(scores.rows)} rows to {texts} texts")
    missing = [label for label in rule.labels if label not in scores.labels]
    if missing:
        raise BadRecord(f"classifier {rule.model} has no label {missing[0]!r}; labels are {', '.join(scores.labels)}")
    return [scores.labels.index(label) for label in dict.fromkeys(rule.labels)]


@dataclass(slots=True)
class _TopicSearch:
    """Of one text, by at most `calls` calls."""

    embedding: Embedding
    examples: np.ndarray
    calls: int

    async def nearness(self, text: str, size: int) -> list[float]:
        """Of each part, the cosine to its nearest example. Parts that are longer than the model reads (its tokens may
        be characters) are asked again in smaller ones. Raises BadRecord where even the smallest are, and for a text
        that is too long."""
        near, parts = list[float](), [part for part in parts_of(text, size) if text[part].strip()]
        _check_calls(len(parts), max(0, self.calls) * EMBED_BATCH, text)
        for first in range(0, len(parts), EMBED_BATCH):
            batch = parts[first : first + EMBED_BATCH]
            self.calls -= 1
            vectors, cut = await self.embedding.counted([text[part] for part in batch])
            if not np.isfinite(vectors).all():
                raise BadRecord("embed answered with what are no numbers")
            if not cut:
                near += np.max(vectors @ self.examples.T, axis=1).tolist()
            elif size <= LEAST_PART:
                raise BadRecord(
                    f"the embedder reads less than {LEAST_PART} characters: a rule about topics cannot be asked"
                )
            else:
                near += await self.nearness(text[batch[0].start : batch[-1].stop], size // 3)
        return near


def parts_of(text: str, size: int) -> list[slice]:
    """Parts of `size` characters, each of which begins in the last sixth of the one before."""
    step = size - size // 6
    return [slice(start, start + size) for start in range(0, max(1, len(text) - size // 6), step)]
