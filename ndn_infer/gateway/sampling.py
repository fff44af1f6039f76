"""How tokens are chosen, from OpenAI's names to ours.

Owns: parameters that chat and completion requests share. Pure. Must not know: messages, prompts, how a token is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from ndn_infer.gateway.fields import Fields, integer_of, number_of, shown, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.structured import read_grammar
from ndn_infer.records.sampling import MAX_LOGIT_BIAS, MAX_LOGPROBS, MAX_STOP_CHARACTERS, MAX_STOPS, Sampling, TokenBias

_NUMBERS: Final = ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
MAX_CHOICES: Final = 16
MAX_TOKENS: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class ChoiceOptions:
    """How a request wants its answers: `n` of them with this sampling, told as they grow when `stream`; `usage`: with
    what they took, also in a stream. `alternatives`: likely tokens told for each, None for no log probabilities at all.
    `explicit`: the request itself says how many tokens."""

    sampling: Sampling
    n: int = 1
    stream: bool = False
    usage: bool = False
    alternatives: int | None = None
    explicit: bool = False

    def choice(self, index: int) -> Sampling:
        """The sampling of one choice: each has a seed of its own, the first one that of the request."""
        return replace(self.sampling, seed=(self.sampling.seed + index) % (1 << 64))


def read_asked(body: Fields, defaults: Sampling, alternatives: int | None, *, max_tokens: int | None) -> ChoiceOptions:
    """What both kinds of requests say alike. `defaults` has what the request leaves out. Raises Refusal."""
    values: dict[str, Any] = {name: getattr(defaults, name) for name in (*_NUMBERS, "top_k", "seed", "max_tokens")}
    for name in _NUMBERS:
        if (number := body.number(name)) is not None:
            values[name] = number
    if (top_k := body.integer("top_k")) is not None:
        values["top_k"] = top_k
    if (seed := body.integer("seed")) is not None:
        values["seed"] = _seed(seed)
    if max_tokens is not None:
        values["max_tokens"] = max_tokens
    sampling = Sampling(
        **values, stop=_stop(body.take("stop"), body.path("stop")), logit_bias=_bias(body.object("logit_bias")),
        ignore_eos=body.flag("ignore_eos"), stop_ids=_stop_ids(body),
        logprobs=0 if alternatives is None else max(1, alternatives), grammar=read_grammar(body),
    )  # fmt: skip
    _check(sampling)
    stream = body.flag("stream")
    usage = _usage(body, stream)
    return ChoiceOptions(sampling, _choices(body), stream, usage, alternatives, max_tokens is not None)


def alternatives_of(count: int | None, where: str) -> int | None:
    if count is not None and not 0 <= count <= MAX_LOGPROBS:
        raise bad(f"{where} must be 0 to {MAX_LOGPROBS}", where)
    return count


def tokens_of(count: int | None, where: str, *, least: int = 1) -> int | None:
    """A number of new tokens."""
    if count is not None and not least <= count <= MAX_TOKENS:
        raise bad(f"{where} must be {least} to {MAX_TOKENS}", where)
    return count


def _choices(body: Fields) -> int:
    n = body.integer("n")
    if n is not None and not 1 <= n <= MAX_CHOICES:
        raise bad(f"n must be 1 to {MAX_CHOICES}", "n")
    return 1 if n is None else n


def _usage(body: Fields, stream: bool) -> bool:
    given = body.object("stream_options")
    if given is None:
        return not stream
    if not stream:
        raise bad("stream_options is for requests with stream", "stream_options")
    options = Fields(given, "stream_options.")
    usage = options.flag("include_usage")
    options.only("include_obfuscation", False)
    options.only("continuous_usage_stats", False)
    options.end()
    return usage


def _seed(seed: int) -> int:
    """OpenAI's are signed."""
    if not -(1 << 63) <= seed < 1 << 64:
        raise bad("seed must have 64 bits at most", "seed")
    return seed % (1 << 64)


def _stop(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    given = value if isinstance(value, list) else [value]
    if len(given) > MAX_STOPS:
        raise bad(f"{where} has {len(given)} texts, and {MAX_STOPS} are the most", where)
    stops = tuple(text_of(item, where, MAX_STOP_CHARACTERS) for item in given)
    if not all(stops):
        raise bad(f"{where} has an empty text", where)
    return stops


def _stop_ids(body: Fields) -> tuple[int, ...]:
    return tuple(integer_of(item, "stop_token_ids") for item in body.items("stop_token_ids", 256) or ())


def _bias(given: dict[str, Any] | None) -> tuple[TokenBias, ...]:
    if not given:
        return ()
    if len(given) > MAX_LOGIT_BIAS:
        raise bad(f"logit_bias has {len(given)} tokens, and {MAX_LOGIT_BIAS} are the most", "logit_bias")
    found: dict[int, float] = {}
    for key, value in given.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 10) or int(key) in found:
            raise bad(f"logit_bias maps token ids to numbers, each id once: {shown(key)!r} is not one", "logit_bias")
        found[int(key)] = number_of(value, "logit_bias")
    return tuple(TokenBias(token, found[token]) for token in sorted(found))


def _check(sampling: Sampling) -> None:
    if refused := sampling.refused():
        name, says = refused
        param = "stop_token_ids" if name == "stop_ids" else name
        raise bad(f"{param} must be {says}", param)
