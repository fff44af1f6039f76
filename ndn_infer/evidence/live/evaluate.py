"""Asking a suite: one ordinary call an item, several at a time, each answer kept as soon as it is there.

Owns: how an item becomes calls, what of each answer is kept, going on where a run was interrupted. Must not know:
scores, records, terminals.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer import clock
from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.errors import CallError, NdnInferError, UsageError
from ndn_infer.evidence.live.run_journal import RunJournal
from ndn_infer.evidence.live.scoring import values_of
from ndn_infer.evidence.score import MAX_TEXT_KEPT, ItemOutcome, NamedAnswer, ids_digest, logprobs_digest
from ndn_infer.evidence.scorers import CHOICE, likeliest
from ndn_infer.evidence.suite import Item, Suite
from ndn_infer.ndn.name import Name
from ndn_infer.records import Message, ModelRecord, Sampling, TokenizeRequest

log = logging.getLogger(__name__)

PASSES: Final = 3
"""How often an item is asked at most that gets no answer."""

OnItem = Callable[[int, int], None]
"""Is told how many items of how many there are."""


@dataclass(frozen=True, slots=True)
class HowToRun:
    """`concurrency`: calls at a time. With `again` every answer is computed again, past caches; `at` names the
    producers that are asked, and no others."""

    concurrency: int = 4
    again: bool = False
    at: tuple[Name, ...] = ()


@dataclass(slots=True)
class SuiteRun:
    """One run of the first items of a suite: `await run.outcomes()`. Cancelled, it leaves what is answered in its
    journal, from which the next run of the same goes on."""

    client: Client
    suite: Suite
    items: Sequence[Item]
    model: ModelRecord
    how: HowToRun = field(default_factory=HowToRun)
    journal: RunJournal | None = None
    on_item: OnItem = lambda done, total: None
    engines: set[str] = field(default_factory=set)
    """The classes that answered."""

    async def outcomes(self) -> list[ItemOutcome]:
        """One of each item, in order, with its value. Raises what every call raises when none at all was answered,
        CallError where two engine classes answered, UsageError, EngineUnavailable as scoring does."""
        found = await self._answered()
        if len(self.engines) > 1:
            raise CallError(
                f"answers came of {len(self.engines)} engine classes: {', '.join(sorted(self.engines))}",
                code="engines", hint="say which one is to answer: --set ask.engine=CLASS",
            )  # fmt: skip
        return await self._valued(found)

    async def _valued(self, found: Sequence[ItemOutcome]) -> list[ItemOutcome]:
        if self.suite.scorer.id == CHOICE:
            return [
                replace(one, value=float(bool(one.answers) and one.text == item.targets[0]))
                for one, item in zip(found, self.items, strict=True)
            ]
        there = [(item, one) for item, one in zip(self.items, found, strict=True) if one.answers]
        items, texts = [item for item, _ in there], [one.text for _, one in there]
        values = dict(zip((item.id for item in items), await values_of(self.suite, items, texts), strict=True))
        return [replace(one, value=values.get(one.id, 0.0)) for one in found]

    async def _answered(self) -> list[ItemOutcome]:
        known = {} if self.journal is None else self.journal.outcomes
        self.engines |= set() if self.journal is None else self.journal.engines
        found = {item.id: known[item.id] for item in self.items if item.id in known}
        places = asyncio.Semaphore(self.how.concurrency)
        errors: list[NdnInferError] = []

        async def one(item: Item) -> None:
            async with places:
                outcome = await self._item(item, errors)
            found[item.id] = outcome
            self.on_item(len(found), len(self.items))

        self.on_item(len(found), len(self.items))
        for _ in range(PASSES):  # what failed is asked again when everything else is answered
            left = [item for item in self.items if item.id not in found or not found[item.id].answers]
            async with asyncio.TaskGroup() as group:
                for item in left:
                    group.create_task(one(item))
            if not any(outcome.answers for outcome in found.values()):
                break
        if errors and not any(outcome.answers for outcome in found.values()):
            raise errors[0]
        return [found[item.id] for item in self.items]

    async def _item(self, item: Item, errors: list[NdnInferError]) -> ItemOutcome:
        """What fails is an outcome too, and is asked again by the next run."""
        began = clock.monotonic()
        conversation = self.client.conversation()
        try:
            outcome = await (self._choices if item.choices else self._text)(conversation, item)
        except UsageError:
            raise
        except NdnInferError as error:
            log.info("item %s: %s", item.id, error)
            errors.append(error)
            return ItemOutcome(item.id, 0.0, error=str(error)[:1000], seconds=clock.monotonic() - began)
        outcome = replace(outcome, seconds=round(clock.monotonic() - began, 4))
        engine = conversation.engines.of(self.model.digest)
        self.engines.add(engine)
        if self.journal is not None:
            self.journal.add(outcome, engine)
        return outcome

    async def _prompt(self, conversation: Conversation, item: Item) -> tuple[int, ...]:
        system = [Message("system", self.suite.system)] if self.suite.system else []
        return await conversation.tokenize(self.model, [*system, Message("user", item.prompt)])

    async def _text(self, conversation: Conversation, item: Item) -> ItemOutcome:
        answer = self._asked(conversation, await self._prompt(conversation, item), self.suite.sampling)
        async with answer:
            async for _ in answer:
                pass
        named = _named(answer, ids_digest(answer.ids))
        text = answer.text[:MAX_TEXT_KEPT]
        return ItemOutcome(item.id, 0.0, (named,), text, len(answer.text) > len(text), answer.finish)

    async def _choices(self, conversation: Conversation, item: Item) -> ItemOutcome:
        """Each choice behind the prompt, and how likely its tokens are there; the text is the likeliest one."""
        prompt = await self._prompt(conversation, item)
        sampling = Sampling(max_tokens=0, score_prompt=True)
        answers: list[NamedAnswer] = []
        logprobs: list[list[float]] = []
        for choice in item.choices:
            ids = await conversation.tokens_of(self.model, TokenizeRequest(text=choice, bare=True))
            answer = self._asked(conversation, prompt + ids, sampling)
            told: list[float] = []
            async with answer:
                async for event in answer:
                    told.extend(one.logprob for one in event.prompt)
            own = told[len(prompt) :]
            answers.append(_named(answer, logprobs_digest(own)))
            logprobs.append(own)
        best = item.choices[likeliest(self.suite.scorer, logprobs)]
        return ItemOutcome(item.id, 0.0, tuple(answers), best, finish="choice")

    def _asked(self, conversation: Conversation, prompt: tuple[int, ...], sampling: Sampling) -> Answer:
        answer = conversation.generate(self.model, prompt, sampling)
        answer.at = self.how.at
        answer.salt = secrets.randbits(32) | 1 if self.how.again else 0
        return answer


def _named(answer: Answer, digest: str) -> NamedAnswer:
    return NamedAnswer(answer.stream_name, digest, len(answer.prompt_ids), len(answer.ids), answer.stored)
