"""Requests of the API, asked of the network: models, answers, vectors.

Owns: which calls a request becomes, and what the model's context and vocabulary allow. Must not know: HTTP. One client
serves all requests; each choice of each request is a conversation of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ndn_infer import clock
from ndn_infer.client import Answer, Client, Conversation, Prompted
from ndn_infer.client.guarding import DemandedPolicy
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError, PromptError, PromptTooLong, UnknownModel
from ndn_infer.gateway.answers import recording
from ndn_infer.gateway.forms.form import AnswerForm, Head
from ndn_infer.gateway.forms.text import TextForm
from ndn_infer.gateway.logged import LoggedRequests, WhoAsks
from ndn_infer.gateway.names import ModelNames
from ndn_infer.gateway.refusal import RETRY_S, Refusal, bad, too_long
from ndn_infer.gateway.requests import ChatRequest, CompletionRequest
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.gateway.talks import NamedTalk, NamedTalks
from ndn_infer.gateway.tokens import DetokenizeQuestion, TokenizeQuestion, text_document, tokens_document
from ndn_infer.gateway.tools import held_to
from ndn_infer.gateway.vectors import EmbeddingRequest, embedding_document
from ndn_infer.records import ModelRecord
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.records.sampling import Sampling
from ndn_infer.telemetry.spans import annotate
from ndn_infer.together import together
from ndn_infer.transport.calls.ask import Ask

MAX_LISTED: Final = 256
_SERVED: Final = frozenset({"generate", "embed"})
"""Functions of the models that GET /v1/models lists."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Answers that are ready to be asked for, `asked.n` for each prompt, and the form in which they are told. `spend`:
    as Service.spend. `tools`: names of those that the answers may call."""

    form: AnswerForm
    asked: ChoiceOptions
    answers: Sequence[Answer]
    spend: Callable[[int], None]
    tools: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Service:
    def __init__(self, client: Client, config: Config, domain: Callable[[], str]) -> None:
        """`domain` gives the label of the tenant domain to ask in, that of now."""
        ask = config.ask
        self.defaults = Sampling(
            max_tokens=config.gateway.max_tokens, temperature=ask.temperature, top_p=ask.top_p or 1.0,
            top_k=max(0, ask.top_k),
        )  # fmt: skip
        """What requests leave out. The seed is 0: equal requests have equal answers, and caches have them."""
        self.spend: Callable[[int], None] = _free
        """Is told of tokens that whoever asks has had computed, or found."""
        self.on_over: Callable[[Answer], object] | None = None
        """Is told of each answer that nobody reads on."""
        self.log: LoggedRequests | None = None
        """Where requests are recorded, if a policy may want it."""
        self.talks: NamedTalks | None = None
        """Conversations by name, where they are kept."""
        self._user = ""
        self._client = client
        self._domain = domain
        self._names = ModelNames(config.gateway.names)
        self._identity: tuple[str, int] | None = None
        self._policy: DemandedPolicy | None = None

    def of(self, domain: Callable[[], str] | None, spend: Callable[[int], None], user: str = "") -> Service:
        """The same for another tenant; None: in the same domain. `user`: who asks, for a prompt log."""
        made = copy(self)
        made._domain, made.spend, made._user = domain or self._domain, spend, user
        return made

    def under(self, policy: DemandedPolicy | None) -> Service:
        """The same, under this policy; None: under that of the client, if it has one."""
        made = copy(self)
        made._policy = policy
        return made

    def named(self, key: str, created: int) -> Service:
        """The same for one request whose answer has this key and time, as Head has them."""
        made = copy(self)
        made._identity = (key, created)
        return made

    def _conversation(self) -> Conversation:
        conversation = self._client.conversation(self._domain())
        conversation.policy = self._policy or conversation.policy
        if conversation.policy is None:  # packets tell what a policy may not show
            conversation.ledger.witness = recording.witness()
        return conversation

    # ------------------------------------------------------------ models

    async def models(self) -> dict[str, Any]:
        """Models of which producers say that they generate or embed with them."""
        await self._client.offers.look()
        digests = {
            one.subject: None
            for entry in self._client.offers.entries()
            for one in entry.offer.functions
            if one.subject_kind == "model" and one.function in _SERVED
        }
        conversation = self._client.conversation()
        found = await together(_known(conversation, digest) for digest in list(digests)[:MAX_LISTED])
        data = [model_document(one, name) for one in found if one for name in (one.alias, *self._names.of(one.alias))]
        return {"object": "list", "data": sorted(data, key=lambda one: str(one["id"]))}

    async def model(self, name: str) -> dict[str, Any]:
        return model_document(await self._resolved(self._client.conversation(), name), name)

    # ------------------------------------------------------------ text

    async def chat(self, request: ChatRequest, make: Callable[[Head], AnswerForm], param: str = "messages") -> Prepared:
        """An answer to messages, in the form that `make` makes; `param` has the messages, for errors. Raises Refusal,
        and what Conversation.resolve_model and tokenize raise."""
        conversation = self._conversation()
        model = await self._generator(conversation, request.model)
        talk = await self._talk(request)
        prompt = await self._chat_prompt(conversation, model, request, param, talk)
        form, asked = make(self._head(request.model, model)), held_to(request.tools, request.asked)
        answers = self._answers(model, asked, [prompt], param)
        self._follow(answers, [conversation.prompted])
        if talk is not None:
            answers[0].conversation.turn = conversation.turn
            answers[0].on_over = _both(answers[0].on_over, talk.over)
        await self._record(request, model, answers)
        headers = {"X-Conversation": talk.name} if talk is not None else {}
        return Prepared(form, asked, answers, self.spend, request.tools.allowed, headers)

    async def _talk(self, request: ChatRequest) -> NamedTalk | None:
        """The conversation that a request stands in."""
        if not request.conversation:
            return None
        if self.talks is None:
            raise bad("this gateway keeps no conversations", "conversation")
        return await self.talks.open(request.conversation, request.messages, self._domain(), self._user)

    def _head(self, name: str, model: ModelRecord) -> Head:
        key, created = self._identity or (secrets.token_hex(16), int(clock.wall_s()))
        return Head(key, created, name or model.alias, f"fp_{model.digest[:12]}")

    async def count(self, request: ChatRequest, param: str = "messages") -> int:
        """Tokens of the prompt that `chat` would ask with."""
        conversation = self._conversation()
        model = await self._generator(conversation, request.model)
        return len(await self._chat_prompt(conversation, model, request, param))

    async def _chat_prompt(
        self, conversation: Conversation, model: ModelRecord, request: ChatRequest, param: str,
        talk: NamedTalk | None = None,
    ) -> tuple[int, ...]:  # fmt: skip
        try:
            if talk is not None:
                room = request.asked.sampling.max_tokens
                return await talk.prompt(conversation, model, request.tools.shown, room)
            return await conversation.tokenize(model, request.messages, request.tools.shown)
        except PromptError as error:
            raise _of_prompt(error, param) from error

    async def completion(self, request: CompletionRequest) -> Prepared:
        """As `chat`."""
        conversation = self._conversation()
        model = await self._generator(conversation, request.model)
        prompts, made = [], []
        for prompt in request.prompts:
            prompts.append(await self._prompt(conversation, model, prompt))
            made.append(conversation.prompted if isinstance(prompt, str) else None)
        echoes = [await self._echo(model, prompt) if request.echo else "" for prompt in request.prompts]
        each = [echo for echo in echoes for _ in range(request.asked.n)]
        form = TextForm(self._head(request.model, model), request.asked, each)
        answers = self._answers(model, request.asked, prompts, "prompt")
        self._follow(answers, made)
        await self._record(request, model, answers)
        return Prepared(form, request.asked, answers, self.spend)

    async def _record(
        self, request: ChatRequest | CompletionRequest, model: ModelRecord, answers: Sequence[Answer]
    ) -> None:
        """In the log that a policy names, before anything is generated. Raises LogAway."""
        if self.log is None:
            return
        user = "/".join(filter(None, (self._user, request.user))) or "gateway"
        who = WhoAsks(self._domain(), user, model.alias)
        said = request.messages if isinstance(request, ChatRequest) else ()
        over = await self.log.asked(who, said, () if isinstance(request, ChatRequest) else request.prompts)
        if over is not None:
            for answer in answers:
                answer.on_over = _both(answer.on_over, over)

    def _follow(self, answers: Sequence[Answer], made: Sequence[Prompted | None]) -> None:
        """`made`: of what each prompt was made, of which there are as many answers each."""
        for number, answer in enumerate(answers):
            answer.prompted, answer.on_over = made[number * len(made) // len(answers)], self.on_over

    async def _prompt(
        self, conversation: Conversation, model: ModelRecord, prompt: str | tuple[int, ...]
    ) -> tuple[int, ...]:
        if isinstance(prompt, str):
            try:
                return await conversation.tokenize_text(model, prompt)
            except PromptError as error:
                raise _of_prompt(error, "prompt") from error
        if max(prompt) >= model.vocabulary:
            raise bad(f"prompt: token ids of this model are 0 to {model.vocabulary - 1}", "prompt")
        if conversation.policy is not None:
            text = (await conversation.detokenize(model, prompt)).text
            if await conversation.screened((text,)) != (text,):
                raise bad("the policy changes this prompt: send it as text", "prompt", code="content_filter")
        return prompt

    async def _echo(self, model: ModelRecord, prompt: str | tuple[int, ...]) -> str:
        return prompt if isinstance(prompt, str) else (await self._conversation().detokenize(model, prompt)).text

    async def _resolved(self, conversation: Conversation, name: str) -> ModelRecord:
        """What is meant by a request's name. As Conversation.resolve_model; where no producer is at all, that is said
        and not that there is no model."""
        try:
            return await conversation.resolve_model(self._names.meant(name))
        except UnknownModel:
            await self._client.offers.look()
            if any(True for _ in self._client.offers.entries()):
                raise
            raise Refusal(503, "no producer is here", code="no_producer", retry_after_s=RETRY_S) from None

    async def _generator(self, conversation: Conversation, name: str) -> ModelRecord:
        model = await self._resolved(conversation, name)
        annotate("gen_ai.request.model", name)
        if model.kind != "causal-lm":
            raise bad(f"{name or model.alias} is of the kind {model.kind}: it generates no text", "model")
        return model

    def _answers(
        self, model: ModelRecord, asked: ChoiceOptions, prompts: Sequence[tuple[int, ...]], param: str
    ) -> list[Answer]:
        """`param` has the prompts, for errors. Raises Refusal for tokens that the model has not, or has no room for."""
        asked.sampling.check(model.vocabulary)
        self.spend(sum(map(len, prompts)))
        return [
            self._conversation().generate(model, prompt, _fitting(model, asked, prompt, index, param))
            for prompt in prompts
            for index in range(asked.n)
        ]

    # ------------------------------------------------------------ tokens

    async def tokenize(self, request: TokenizeQuestion) -> dict[str, Any]:
        """Raises Refusal, and what Conversation.resolve_model, tokens_of and detokenize raise."""
        conversation = self._conversation()
        model = await self._resolved(conversation, request.model)
        try:
            ids = await conversation.tokens_of(model, request.asked)
        except PromptError as error:
            raise _of_prompt(error, request.param) from error
        pieces = (await conversation.detokenize(model, ids, pieces=True)).pieces if request.pieces else ()
        return tokens_document(request, ids, pieces, model.context_tokens)

    async def detokenize(self, request: DetokenizeQuestion) -> dict[str, Any]:
        """As `tokenize`."""
        conversation = self._conversation()
        model = await self._resolved(conversation, request.model)
        return text_document((await conversation.detokenize(model, request.ids)).text)

    # ------------------------------------------------------------ vectors

    async def embed(self, request: EmbeddingRequest) -> dict[str, Any]:
        conversation = self._conversation()
        model = await self._resolved(conversation, request.model)
        if model.kind != "text-embedding":
            raise bad(f"{request.model or model.alias} is of the kind {model.kind}: it embeds no texts", "model")
        ask = Ask(("model", model.digest), "embed", EmbedRequest(texts=request.texts), conversation.domain)
        vectors = await conversation.caller.call(ask, TensorRecord)
        self.spend(vectors.tokens)
        return embedding_document(request, vectors)


def _both(first: Callable[[Answer], object] | None, then: Callable[[Answer], object]) -> Callable[[Answer], object]:
    def over(answer: Answer) -> None:
        if first is not None:
            first(answer)
        then(answer)

    return over


def _free(tokens: int) -> None:
    """Nobody counts."""


def model_document(record: ModelRecord, name: str) -> dict[str, Any]:
    """With what vLLM adds (max_model_len), and the digest that the alias stands for."""
    return {
        "id": name, "object": "model", "created": 0, "owned_by": "ndn-infer", "max_model_len": record.context_tokens,
        "kind": record.kind, "digest": record.digest,
    }  # fmt: skip


async def _known(conversation: Conversation, digest: str) -> ModelRecord | None:
    try:
        return await conversation.resolve_model(digest)
    except NdnInferError:
        return None  # offered, and nobody has the operator's word on what it is


def _of_prompt(error: PromptError, param: str) -> Refusal:
    """With the parameter that has the prompt."""
    return too_long(str(error), param) if isinstance(error, PromptTooLong) else bad(str(error), param)


def _fitting(model: ModelRecord, asked: ChoiceOptions, prompt: tuple[int, ...], index: int, param: str) -> Sampling:
    """The sampling of one choice, with no more tokens than the context has room for. Raises Refusal where the request
    wants more than that: nothing is cut silently."""
    room = model.context_tokens - len(prompt)
    wanted = asked.sampling.max_tokens
    if room < 1 or (asked.explicit and wanted > room):
        words = f"the prompt has {len(prompt)} tokens"
        words += f" and {wanted} new ones are asked for" if asked.explicit else ""
        raise too_long(f"{words}; the context of this model is {model.context_tokens}", param)
    return replace(asked.choice(index), max_tokens=min(wanted, room))
