"""What a client asks: the JSON of /v1/chat/completions and /v1/completions, as our records.

Owns: which parameters each takes, and which are refused. Pure. Must not know: HTTP, models, how an answer is had, what
a message or a prompt may be (messages.py, prompts.py).

Anything that is not understood is a Refusal that names it. A parameter that is not supported may be there with the
value that asks for nothing, as some clients send all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ndn_infer.client.tool_use import ToolUse
from ndn_infer.gateway.chat_tools import read_tools
from ndn_infer.gateway.fields import Fields
from ndn_infer.gateway.messages import read_messages
from ndn_infer.gateway.prompts import read_prompts
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.sampling import ChoiceOptions, alternatives_of, read_asked, tokens_of
from ndn_infer.records import Message
from ndn_infer.records.sampling import Sampling

MAX_MODEL: Final = 120
MAX_CONVERSATION: Final = 1024

_CHAT_ONLY: Final[Mapping[str, tuple[Any, ...]]] = {
    "modalities": (["text"],), "audio": (), "prediction": (),
    "reasoning_effort": ("none",), "verbosity": (), "web_search_options": (), "moderation": (),
}  # fmt: skip
_NOT_HERE: Final[Mapping[str, tuple[Any, ...]]] = {
    "service_tier": ("auto", "default"), "store": (False,), "metadata": ({},), "prompt_cache_key": (),
    "prompt_cache_retention": (),
}  # fmt: skip
"""Parameters that are refused, each with the values that ask for nothing."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    asked: ChoiceOptions
    tools: ToolUse = ToolUse()
    user: str = ""
    """Who asks, in the client's own words."""
    conversation: str = ""
    """In which conversation it stands: a label, or a name."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """`prompts` are texts, or token ids. With `echo` they come back, with their log probabilities where these are asked
    for (Sampling.score_prompt)."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    asked: ChoiceOptions
    echo: bool = False
    user: str = ""


def read_chat(document: Mapping[str, Any], defaults: Sampling) -> ChatRequest:
    """Raises Refusal. `defaults` has what the request leaves out."""
    body = Fields(document)
    model = model_name(body)
    messages = read_messages(body)
    tools = read_tools(body)
    for name, allowed in {**_CHAT_ONLY, **_NOT_HERE}.items():
        body.only(name, *allowed)
    logprobs, top = body.flag("logprobs"), body.integer("top_logprobs")
    if top is not None and not logprobs:
        raise bad("top_logprobs needs logprobs: true", "top_logprobs")
    alternatives = (alternatives_of(top, "top_logprobs") or 0) if logprobs else None
    older, newer = body.integer("max_tokens"), body.integer("max_completion_tokens")
    if older is not None and newer is not None and older != newer:
        raise bad("max_tokens and max_completion_tokens say different things", "max_tokens")
    count = tokens_of(older, "max_tokens") if newer is None else tokens_of(newer, "max_completion_tokens")
    asked = read_asked(body, defaults, alternatives, max_tokens=count)
    user, conversation = _labels(body), body.text("conversation", MAX_CONVERSATION) or ""
    if conversation and asked.n > 1:
        raise bad("a conversation goes on with one answer: n must be 1", "n")
    body.end()
    return ChatRequest(model, messages, asked, tools, user, conversation)


def read_completion(document: Mapping[str, Any], defaults: Sampling) -> CompletionRequest:
    """Raises Refusal. Without max_tokens there are 16, as OpenAI has it."""
    body = Fields(document)
    model = model_name(body)
    prompts = read_prompts(body.take("prompt"))
    for name, allowed in _NOT_HERE.items():
        body.only(name, *allowed)
    body.only("suffix", "")
    alternatives = alternatives_of(body.integer("logprobs"), "logprobs")
    echo = body.flag("echo")
    count = tokens_of(body.integer("max_tokens"), "max_tokens", least=0)
    best_of = body.integer("best_of")
    asked = read_asked(body, defaults, alternatives, max_tokens=16 if count is None else count)
    if best_of is not None and best_of != asked.n:
        raise bad("best_of is not supported but as the value of n", "best_of", "unsupported_parameter")
    user = _labels(body)
    body.end()
    if echo and alternatives is not None:
        asked = replace(asked, sampling=replace(asked.sampling, score_prompt=True))
    return CompletionRequest(model, prompts, asked, echo, user)


# ---------------------------------------------------------------- parts of a request


def model_name(body: Fields) -> str:
    """ "" where the request names none: Service knows whether there is one for that."""
    return body.text("model", MAX_MODEL) or ""


def _labels(body: Fields) -> str:
    """Who asks, in the client's own words: for its own accounting and a prompt log, without effect on any answer."""
    user, identifier = body.text("user", 512), body.text("safety_identifier", 512)
    return user or identifier or ""
