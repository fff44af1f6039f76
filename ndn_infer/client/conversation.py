"""One conversation: questions in, text out, every byte of it verified, by names alone.

Owns: the path of a prompt on the asking side: resolve the alias, retrieve, tokenize, generate, and the ledger of names
it all rests on. Must not know: torch, tokenizers, how anything is computed, how an answer is read (answer.py), other
conversations of this connection.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from ndn_infer import records
from ndn_infer.client.answer import Answer, Timing
from ndn_infer.client.answer_watch import AnswerWatch
from ndn_infer.client.asking_state import AskingState, Prompted
from ndn_infer.client.corpora import Corpora
from ndn_infer.client.guarding import GuardedAnswer, Guarding
from ndn_infer.client.passages import Cited
from ndn_infer.errors import BadRecord, Blocked, CallError, NetworkError, PromptError, PromptTooLong, UnknownModel
from ndn_infer.namespace import CatalogRecord
from ndn_infer.records import (
    TOO_LONG,
    CorpusRecord,
    Message,
    ModelRecord,
    Sampling,
    TokenizeRequest,
    Tokens,
)
from ndn_infer.records.bounds import MAX_TEXT
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.records.tools import Tool
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered

log = logging.getLogger(__name__)


class Conversation(AskingState):
    """Questions that belong together: one ledger, one tenant domain; a prompt that continues the last one tells its
    producer who holds the KV of that. Reusable for many questions, one at a time. Client.conversation makes it."""

    async def ask(self, model: str, text: str, sampling: Sampling | None = None, *, system: str = "") -> Answer:
        """The answer to `text` by the model of this alias or digest, to be read with `async for`; greedy, unless
        `sampling` says otherwise. Raises what resolve_model and tokenize raise."""
        timing = Timing()
        record = await self.resolve_model(model)
        messages = [Message("system", system)] if system else []
        prompt = await self.tokenize(record, [*messages, Message("user", text)])
        answer = self.generate(record, prompt, sampling or Sampling(self._node.config.ask.max_tokens))
        answer.timing = timing
        return answer

    def generate(self, model: ModelRecord, prompt: tuple[int, ...], sampling: Sampling) -> Answer:
        """The answer to token ids. It is asked for when it is first read."""
        answer = Answer(self, model, prompt, sampling)
        if (guarding := self.guarding()) is not None:
            answer.guarded = GuardedAnswer(guarding, sampling.stop)
        if self.meters is not None:
            answer.watch = AnswerWatch(self.meters, model.digest)
        return answer

    def guarding(self) -> Guarding | None:
        """Who asks guards here, where a policy is demanded."""
        return None if self.policy is None else Guarding(self.policy, self.caller, self.domain)

    async def screened(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Texts of a prompt as the policy lets them be asked, before anything is computed of them. Raises Blocked,
        Unjudged."""
        guarding = self.guarding()
        return texts if guarding is None else await guarding.screen(texts)

    # ------------------------------------------------------------ catalogue

    async def resolve_model(self, alias: str) -> ModelRecord:
        """What the operator signed for this alias or digest, no older than what was seen before. Raises UnknownModel,
        NetworkError, TrustError; StaleVersion among these, when nothing but a replaced record can be had."""
        record = await self._resolve("model", alias, ModelRecord)
        return record

    async def resolve_corpus(self, alias: str) -> CorpusRecord:
        """As resolve_model; in a tenant domain what a producer of the domain says, by a private call."""
        if self.domain != PUBLIC.label:
            return await self._corpora.private(alias)
        return await self._resolve("corpus", alias, CorpusRecord)

    async def _resolve(self, kind: str, alias: str, cls: type[records.R]) -> records.R:
        label = alias.replace("/", "--")
        base = CatalogRecord(kind, label).to_name(self._node.net)
        try:
            fetched = await self.fetcher.fetch(base, most=records.most_bytes(cls))
        except NetworkError as error:
            hint = "'ndn-infer status' shows what this network offers; start a producer with 'ndn-infer produce'"
            raise UnknownModel(f"no {kind} called {alias!r} is offered in this network", hint=hint) from error
        return records.decode(cls, fetched.content)

    # ------------------------------------------------------------ steps

    async def tokenize(
        self, model: ModelRecord, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:  # fmt: skip
        """Token ids of a conversation in which these tools may be called, through the model's chat template. Under a
        policy a guard is asked first: raises Blocked, Unjudged."""
        if not any(message.content.strip() for message in messages if message.role == "user"):
            raise PromptError("the prompt is empty", hint="give a prompt, or '-' to read it from standard input")
        request = await self._screened(_bounded(TokenizeRequest(messages=tuple(messages), tools=tuple(tools))))
        return await self.tokens_of(model, _bounded(request))

    async def _screened(self, request: TokenizeRequest) -> TokenizeRequest:
        """Tools and calls of them are read by the model too: they are judged, and stay as they are or are refused,
        since a part of JSON, or of a name, cannot be left out. Raises Blocked, Unjudged."""
        contents = tuple(message.content for message in request.messages)
        fixed = _fixed_texts(request)
        texts = await self.screened((*contents, *fixed))
        if texts[len(contents) :] != fixed:
            raise Blocked("the policy would redact part of a tool, or of a call of one: these cannot be asked in part")
        shown = zip(request.messages, texts[: len(contents)], strict=True)
        return replace(request, messages=tuple(replace(message, content=text) for message, text in shown))

    async def tokenize_text(self, model: ModelRecord, text: str) -> tuple[int, ...]:
        """Token ids of a text as it stands, without a chat template."""
        (text,) = await self.screened((text,))
        return await self.tokens_of(model, TokenizeRequest(text=text))

    async def tokens_of(self, model: ModelRecord, request: TokenizeRequest) -> tuple[int, ...]:
        """Token ids of a request as it stands, but for the day, which a template may ask for."""
        if model.dated and request.messages:
            request = replace(request, today=date.today().isoformat())
        answers: list[Answered] = []
        try:
            ask = Ask(("model", model.digest), "tokenize", request, self.domain, evidence=self.evidence)
            tokens = await self.caller.call(ask, Tokens, on_answer=answers.append)
        except CallError as error:
            if error.code != TOO_LONG:
                raise
            raise PromptTooLong(str(error)) from error
        self.prompted = Prompted(request, tokens.ids, answers[-1])
        return tokens.ids

    async def detokenize(self, model: ModelRecord, ids: tuple[int, ...], *, pieces: bool = False) -> Text:
        """The text of token ids, control tokens with their names; `pieces`: with the bytes of each."""
        ask = Ask(("model", model.digest), "detokenize", DetokenizeRequest(ids, True, pieces), self.domain)
        text = await self.caller.call(ask, Text)
        if pieces and len(text.pieces) != len(ids):
            raise BadRecord(f"{len(text.pieces)} pieces of {len(ids)} tokens")
        return text

    async def lookup(self, corpus: CorpusRecord, query: str, limit: int) -> tuple[Cited, ...]:
        """As Corpora.lookup, in the domain of this conversation."""
        return await self._corpora.lookup(corpus, query, limit)

    @property
    def _corpora(self) -> Corpora:
        return Corpora(self._node.net, self.caller, self.fetcher, self.domain)


def _fixed_texts(request: TokenizeRequest) -> tuple[str, ...]:
    """What a prompt has beside the text of its messages, one text for each tool and each call."""
    tools = ("\n".join((tool.name, tool.description, tool.parameters)) for tool in request.tools)
    calls = (
        "\n".join((call.name, call.arguments, call.id)) for message in request.messages for call in message.tool_calls
    )
    answered = (message.tool_call_id for message in request.messages if message.tool_call_id)
    return (*tools, *calls, *answered)


def _bounded(request: TokenizeRequest) -> TokenizeRequest:
    """Raises PromptTooLong."""
    if request.characters > MAX_TEXT:
        raise PromptTooLong(f"the prompt has {request.characters} characters, and {MAX_TEXT} are the most")
    return request
