"""Conversations that outgrow a model's context: which messages a prompt has then, by a stated policy.

Owns: what is left out, and the call that sums it up. Must not know: where conversations are kept, terminals. Nothing is
left out in silence: each time is a step (records.chat.ChatStep), which the conversation keeps and readers are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer.client import Conversation
from ndn_infer.errors import Blocked, CallError, PromptTooLong
from ndn_infer.records import Message, ModelRecord, Sampling
from ndn_infer.records.chat import CUT, SUMMARY, ChatStep
from ndn_infer.records.tools import Tool

REFUSE: Final = "refuse"
SUMMARY_TOKENS: Final = 128
"""Of a summary at most; prompts leave room for it."""
FRAME_TOKENS: Final = 32
"""What stands around a summary."""
_ASK: Final = "Summarize this conversation in a few sentences. Keep names, numbers and what was agreed.\n\n"
_BEFORE: Final = "Earlier messages were left out. Summary of them: "


@dataclass(frozen=True, slots=True)
class PromptRoom:
    """`room`: tokens that are left for the answer; `policy`: refuse, cut or summary; `tools` as of tokenize."""

    policy: str
    room: int
    tools: Sequence[Tool] = ()


def in_prompt(messages: Sequence[Message], step: ChatStep | None) -> list[Message]:
    """The messages that a prompt has after this step."""
    if step is None:
        return list(messages)
    first = _systems(messages)
    head, rest = list(messages[:first]), list(messages[first + step.upto :])
    if step.summary:
        text = _BEFORE + step.summary
        head = [*head[:-1], replace(head[-1], content=f"{head[-1].content}\n\n{text}")] if head else [
            Message("system", text)
        ]  # fmt: skip
    return [*head, *rest]


async def prompt_of(
    conversation: Conversation, model: ModelRecord, messages: Sequence[Message], step: ChatStep | None,
    wanted: PromptRoom,
) -> tuple[tuple[int, ...], ChatStep | None]:  # fmt: skip
    """Token ids of a conversation that fit the model's context with room for an answer, and the step that they come
    after. Raises PromptTooLong where the policy is to refuse, or the newest question alone does not fit; Blocked where
    a guard's policy stops the summary."""
    if wanted.policy == REFUSE:
        return await conversation.tokenize(model, in_prompt(messages, step), wanted.tools), step
    fitting = _Fitting(conversation, model, messages, wanted)
    ids = await fitting.ids(step)
    if ids is not None:
        return ids, step
    made = await fitting.step(step)
    ids = await fitting.ids(made)
    if ids is None:
        raise PromptTooLong(f"the newest messages alone do not fit the {model.context_tokens} tokens of {model.alias}")
    return ids, made


@dataclass(frozen=True, slots=True)
class _Fitting:
    conversation: Conversation
    model: ModelRecord
    messages: Sequence[Message]
    wanted: PromptRoom

    async def ids(self, step: ChatStep | None, less: int = 0) -> tuple[int, ...] | None:
        """None for a prompt that is too long, by `less` tokens more than room asks."""
        try:
            prompt = in_prompt(self.messages, step)
            ids = await self.conversation.tokenize(self.model, prompt, self.wanted.tools)
        except PromptTooLong:
            return None
        return ids if len(ids) + self.wanted.room + less <= self.model.context_tokens else None

    async def step(self, before: ChatStep | None) -> ChatStep:
        """As few messages are left out as possible, whole turns of them. Raises PromptTooLong."""
        first, known = _systems(self.messages), before.upto if before is not None else 0
        places = [
            at - first for at in range(first + known + 1, len(self.messages)) if self.messages[at].role == "user"
        ]  # fmt: skip
        less = SUMMARY_TOKENS + FRAME_TOKENS if self.wanted.policy == SUMMARY else 0
        low, high = 0, len(places)
        while low < high:  # the first place that fits
            middle = (low + high) // 2
            if await self.ids(ChatStep(CUT, places[middle]), less) is not None:
                high = middle
            else:
                low = middle + 1
        if low == len(places):
            raise PromptTooLong(
                f"the newest messages alone do not fit the {self.model.context_tokens} tokens of {self.model.alias}"
            )
        if self.wanted.policy == CUT:
            return ChatStep(CUT, places[low])
        told = before.summary if before is not None else ""
        return await self._summary(places[low], told, self.messages[first + known : first + places[low]])

    async def _summary(self, upto: int, told: str, left_out: Sequence[Message]) -> ChatStep:
        """By an ordinary call: equal conversations have equal summaries, and caches have them. Of what is too long even
        for that, the end."""
        lines = [told, *(f"{one.role}: {one.content}" for one in left_out if one.content)]
        text = "\n".join(filter(None, lines))
        while True:
            try:
                ids = await self.conversation.tokenize(self.model, [Message("user", _ASK + text)])
            except PromptTooLong:
                ids = ()
            if ids and len(ids) + SUMMARY_TOKENS <= self.model.context_tokens:
                break
            if len(text) < 100:
                raise PromptTooLong(f"the context of {self.model.alias} has no room for a summary")
            text = text[len(text) // 2 :]
        turn = self.conversation.turn
        answer = self.conversation.generate(self.model, ids, Sampling(SUMMARY_TOKENS))
        async with answer:
            async for _ in answer:
                pass
        self.conversation.turn = turn
        if (stop := answer.stopped) is not None:
            raise Blocked(f"the summary of what was said before was stopped: {stop.words}", rules=stop.rules)
        if not answer.text.strip():
            raise CallError("the summary of what was said before is empty", code="failed")
        return ChatStep(SUMMARY, upto, answer.text.strip(), answer.stream_name)


def _systems(messages: Sequence[Message]) -> int:
    """How many messages of the system stand before all others."""
    return next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))


def words_of_step(step: ChatStep) -> str:
    """What a user is told."""
    what = f"the first {step.upto} messages are not in the prompt any more: it had outgrown the model's context"
    return f"{what}; {step.name} sums them up" if step.kind == SUMMARY else what
