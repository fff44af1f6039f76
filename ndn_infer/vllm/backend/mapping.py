"""What a request to generate is in vLLM's terms.

Owns: from Sampling to the arguments of vLLM's SamplingParams, which choices vLLM makes itself. Pure. Must not know:
vLLM's classes, how tokens come back.

vLLM's own sampler draws from a state that a request begins with, so that an answer could not go on elsewhere with the
tokens it would have had. What is more than the likeliest token is therefore chosen by our sampler (engine/sampler.py),
in vLLM's process, by seed and position (choosing.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from ndn_infer import records
from ndn_infer.engine.sampler import GREEDY_BELOW
from ndn_infer.records.sampling import Sampling

EXTRA: Final = "ndn_infer"
"""Key of SamplingParams.extra_args; its value is [hex of the encoded Sampling, tokens of the prompt that were answered
before, those that are answered again as they were]."""


def chosen_here(sampling: Sampling) -> bool:
    """Whether tokens are chosen by our sampler: all that is more than the likeliest token as the model has it."""
    plain = sampling.temperature < GREEDY_BELOW and not sampling.needs_history and not sampling.logit_bias
    return not plain or sampling.grammar is not None


def params_of(
    sampling: Sampling, answered: int, ends: Collection[int] = (), replayed: Sequence[int] = ()
) -> dict[str, Any]:
    """Arguments of SamplingParams for `sampling` (as generation.sampling_params makes it: with the model's end tokens
    in `stop_ids`, where they end an answer). `answered`: tokens at the prompt's end that are of the answer. `ends`:
    those that end one within a grammar. `replayed`: tokens that come first, whatever is likely. Tokens are told one
    step at a time, without text: that is made by the producer."""
    stops = {*sampling.stop_ids, *(ends if sampling.grammar is not None else ())}
    wanted: dict[str, Any] = {
        "n": 1,
        "temperature": 0.0,
        "max_tokens": sampling.max_tokens + len(replayed),
        "stop_token_ids": sorted(stops),
        "ignore_eos": True,
        "detokenize": False,
        "logprobs": sampling.logprobs or None,
        "prompt_logprobs": sampling.logprobs if sampling.score_prompt else None,
    }
    if chosen_here(sampling) or replayed:
        wanted["extra_args"] = {EXTRA: [records.encode(sampling).hex(), answered, list(replayed)]}
    return wanted
