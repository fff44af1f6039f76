"""Answers from documents: which corpus a folder is, serving it while it is asked, what a question finds in it.

Owns: `--rag`. Must not know: how passages are cut, embedded or signed. A folder is found by what is in it: the corpus
digest covers every passage, so an edited file makes another corpus, and two folders of one name are two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.client import Cited, Conversation
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError, UnknownModel
from ndn_infer.local.network import EmbeddedNetwork
from ndn_infer.local.prepare import prepared
from ndn_infer.records import CorpusRecord
from ndn_infer.security.domains import PUBLIC
from ndn_infer.together import together

NOT_FOUND: Final = "The documents do not hold an answer to this."

log = logging.getLogger(__name__)


def corpus_of(folder: Path, config: Config, *, quiet: bool) -> CorpusRecord:
    """What the network calls this folder. Reads every text in it; raises as read_passages does."""
    from ndn_infer.corpus.corpus import corpus_digest
    from ndn_infer.corpus.folder import read_passages
    from ndn_infer.corpus.ranking import resolved

    passages = read_passages(folder, config.cache_dir)
    embedder = prepared(config, config.ask.embedder, quiet=quiet).digest
    ranking = resolved(config.ask.ranking, len(passages))
    return CorpusRecord(str(folder), corpus_digest(passages, embedder, ranking), len(passages), embedder, ranking)


async def served(
    record: CorpusRecord, folder: Path, conversation: Conversation, news: Callable[[str], None],
    producers: Callable[[Sequence[str]], EmbeddedNetwork],
) -> EmbeddedNetwork | None:  # fmt: skip
    """`producers` of the functions that serve `folder` in the running network, ready; None when it is served there
    already. The caller stops them. Raises ChildFailed."""
    if await _offered(conversation, "corpus", record.digest):
        return None
    news(f"serving {folder} while it is asked: {record.passages} passage{'s' * (record.passages != 1)}")
    embed = [] if await _offered(conversation, "model", record.embedder) else ["embed"]
    functions = [*embed, "rag", "cite"]
    network = producers(functions)
    await network.start()
    return network


async def _offered(conversation: Conversation, kind: str, digest: str) -> bool:
    try:
        if kind == "corpus":
            await conversation.resolve_corpus(digest)
        else:
            await conversation.resolve_model(digest)
    except UnknownModel:
        return False
    return True


async def resolved(
    conversation: Conversation, folder: CorpusRecord | None, aliases: Sequence[str]
) -> tuple[CorpusRecord, ...]:
    """What a question is asked of: a folder, by what the domain of the conversation calls it, and the corpora of these
    aliases. Raises UnknownModel."""
    named = []
    if folder is not None:
        private = conversation.domain != PUBLIC.label
        named.append(await conversation.resolve_corpus(folder.digest) if private else folder)
    return (*named, *await together(map(conversation.resolve_corpus, aliases)))


@dataclass(frozen=True, slots=True)
class WantedPassages:
    """At most `limit` passages for a question, with a score of at least `min_score`."""

    question: str
    limit: int
    min_score: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found: the passages for the prompt, and the best score of those that there are."""

    cited: tuple[Cited, ...]
    best: float


async def look_up(
    conversation: Conversation, corpora: Sequence[CorpusRecord], wanted: WantedPassages,
    news: Callable[[str], None] = log.warning,
) -> Found:  # fmt: skip
    """Passages of all corpora, which are asked side by side wherever they are, best first. Those that do not answer are
    left out, and said, unless none does: then what it raises is raised."""
    asked = [conversation.lookup(corpus, wanted.question, wanted.limit) for corpus in corpora]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    lists: list[tuple[CorpusRecord, tuple[Cited, ...]]] = []
    for corpus, answer in zip(corpora, answers, strict=True):
        if not isinstance(answer, BaseException):
            lists.append((corpus, answer))
        elif not isinstance(answer, NdnInferError) or len(corpora) == 1:
            raise answer
        else:
            news(f"corpus {corpus.alias} did not answer ({answer}); the others did not wait for it")
    if not lists:
        raise next(answer for answer in answers if isinstance(answer, BaseException))
    cited = merged(lists)
    good = tuple(item for item in cited if item.score >= wanted.min_score)[: wanted.limit]
    return Found(good, max((item.score for item in cited), default=0.0))


def merged(lists: Sequence[tuple[CorpusRecord, Sequence[Cited]]]) -> list[Cited]:
    """Passages of several corpora in one order, the same text once. Each corpus' own order stays; which comes next of
    the first ones is decided by score, which corpora of one embedder share, and by place among others."""
    by_score = len({corpus.embedder for corpus, _ in lists}) == 1
    left = [list(found) for _, found in lists if found]
    taken: dict[str, Cited] = {}
    while left:
        chosen = max(left, key=lambda found: found[0].score) if by_score else left[0]
        item = chosen.pop(0)
        taken.setdefault(" ".join(item.passage.text.split()), item)
        left = [found for found in ([*left[1:], left[0]] if not by_score else left) if found]
    return list(taken.values())
