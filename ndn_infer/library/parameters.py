"""Parameters of a question as keywords, under the names that other clients of language models have for them.

Owns: from such parameters and the options [ask] to one Sampling. Must not know: flags, how anything is asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.library.answer_shape import KEYWORDS, AnswerShape, grammar_of
from ndn_infer.library.tools import ToolLike
from ndn_infer.records.sampling import Sampling

DEFAULTED: Final = ("max_tokens", "temperature", "top_p", "top_k")
"""What the section [ask] of the configuration has defaults for."""


class HowToAnswer(AnswerShape, total=False):
    """How tokens are chosen, and what the answer must look like; docs/library.md. Without `temperature` the answer is
    greedy unless [ask] says otherwise. Equal questions with an equal `seed` have equal answers, and caches answer
    them."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int
    stop: Sequence[str]


class HowToAsk(HowToAnswer, total=False):
    """With tools that the answer may call; docs/tools.md. `tool_choice`: "auto", "none", "required", or a name."""

    tools: Sequence[ToolLike]
    tool_choice: str
    parallel_tool_calls: bool


def sampling_of(config: Config, given: Mapping[str, Any]) -> Sampling:
    """The given parameters, the rest by [ask]; values are not checked. A seed is drawn where randomness needs one.
    Raises UsageError for a form of the answer that cannot be obeyed."""
    numbers = {name: value for name, value in given.items() if name not in KEYWORDS}
    chosen: dict[str, Any] = {name: getattr(config.ask, name) for name in DEFAULTED} | numbers
    if "seed" not in chosen and chosen["temperature"] > 0:
        chosen["seed"] = secrets.randbits(32)
    stop = chosen.pop("stop", ())
    # Both ways to switch a filter off are one request.
    chosen |= {"top_p": chosen["top_p"] or 1.0, "top_k": 0 if chosen["top_k"] == -1 else chosen["top_k"]}
    return Sampling(**chosen, stop=(stop,) if isinstance(stop, str) else tuple(stop), grammar=grammar_of(given))


def checked(sampling: Sampling) -> Sampling:
    """Raises UsageError that names the first parameter out of its range."""
    if refused := sampling.refused():
        name, range_ = refused
        raise UsageError(f"{name} must be {range_}, not {getattr(sampling, name)!r:.60}")
    return sampling
