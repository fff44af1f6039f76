"""Answers from documents: the passages nearest to a question, and an answer that is to rest on them.

Owns: asking one corpus. Must not know: who serves it, folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from ndn_infer.client import Answer, Cited, Conversation, Timing, rag_prompt
from ndn_infer.client.citing import CheckedCitations, checked_citations
from ndn_infer.errors import UsageError
from ndn_infer.library.chat import ChatParts, ChatReply
from ndn_infer.library.parameters import HowToAnswer, checked, sampling_of
from ndn_infer.library.retrieval import NOT_FOUND, WantedPassages, look_up
from ndn_infer.library.tools import MadeCall
from ndn_infer.records import CorpusRecord, Message, Sampling


@dataclass(frozen=True, slots=True)
class Documents:
    """A corpus that is served."""

    parts: ChatParts
    corpus: CorpusRecord

    def ask(self, question: str, **how: Unpack[HowToAnswer]) -> ChatReply:
        """The answer to `question` from at most [ask] passages; `cited` of the reply names them. Where none is near
        enough, the reply says so and no model is asked. Raises UsageError for a parameter out of its range."""
        return ChatReply(_FromPassages(self, question, checked(sampling_of(self.parts.config, how))))

    async def search(self, question: str, *, limit: int = 5) -> tuple[Cited, ...]:
        """The passages nearest to `question`, best first, each verified."""
        conversation = self.parts.client.conversation()
        return await conversation.lookup(self.corpus, question, limit)

    async def cite(self, reply: ChatReply) -> CheckedCitations | None:
        """Which passages a reply of `ask` cites, and what in it is from none of them: `found`, as we find it ourselves;
        `by` names who signed the same. None where there were no passages. Raises UsageError for a reply that was not
        read to its end."""
        asked = reply.question
        if not isinstance(asked, _FromPassages) or reply.answer is None or not reply.finish:
            raise UsageError("this is no answer from documents that has ended", hint="read a reply of 'ask' to its end")
        return await checked_citations(reply.answer, asked.question)


@dataclass(slots=True, eq=False)
class _FromPassages:
    documents: Documents
    question: str
    sampling: Sampling
    answer: Answer | None = None

    async def begin(self) -> Answer:
        if self.answer is None:
            self.answer = await self._asked(self.documents.parts.client.conversation())
        return self.answer

    def ended(self) -> None:
        """Nothing follows."""

    @property
    def calls(self) -> tuple[MadeCall, ...]:
        return ()

    async def _asked(self, conversation: Conversation) -> Answer:
        parts, timing = self.documents.parts, Timing()
        ask = parts.config.ask
        model = await conversation.resolve_model(parts.model)
        wanted = WantedPassages(self.question, ask.passages, ask.min_score)
        found = await look_up(conversation, [self.documents.corpus], wanted)
        answer = conversation.generate(model, (), self.sampling)
        answer.timing, answer.cited = timing, found.cited
        if found.cited:
            message = Message("user", rag_prompt(self.question, found.cited))
            answer.prompt_ids = await conversation.tokenize(model, [message])
        else:
            answer.finish, answer.text = "not-in-documents", NOT_FOUND
        return answer
