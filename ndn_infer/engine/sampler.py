"""Choosing the next token.

Owns: which tokens of a stream count for penalties, and the choice. What it is made by: records/sampling.py. Must not
know: models, streams, torch.

The choice for a position is a function of (logits, parameters, tokens so far, position) and of nothing else.
Randomness is by counter, not by state: the number drawn for position p of a stream with seed s is Philox(key=s,
counter=p), so whoever continues a stream continues it with the identical choices. (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011.)

Tokens that the answer's grammar does not allow (grammar.py) are out before anything else, whatever bias they have. The
order after that is that of transformers 5: logit bias, repetition penalty, (frequency and presence penalty, which
transformers lacks, where vLLM has them,) temperature, top-k, top-p, min-p. vLLM applies min-p before top-k and top-p,
so that top-p there is a share of what min-p left; here, as in transformers and llama.cpp, it is a share of what top-k
left. The only other difference is among tokens of equal logits at the border of top-k or top-p: transformers and vLLM
keep all or some of them, here those with the lowest ids stay, exactly k of them. Log probabilities are told of all
tokens, without a grammar too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndn_infer.errors import ModelError
from ndn_infer.records.sampling import Sampling

Floats = NDArray[np.floating]
Allowed = NDArray[np.bool_]

GREEDY_BELOW: Final = 1e-5
"""A lower temperature is greedy, as in vLLM: what it leaves to the second token is nothing, or not a number."""

_EXACT_UP_TO: Final = 4096
"""Weights of so many tokens are computed in float64, of more (a whole vocabulary) in float32, ten times as fast. Sums
are float64."""
_BLOCK: Final = 256


class Choice(NamedTuple):
    """`logprob`: natural logarithm of the token's probability under the model, before bias, penalties, temperature and
    filters. `top`: the `logprobs` most likely tokens with the same, the likeliest first, equal ones by id."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class TokenHistory:
    """Which tokens a stream has, and how often the answer has each: one slot for each token that occurs, so that a step
    touches these and not the whole vocabulary. Wanted only where `needs_history`."""

    __slots__ = ("_counts", "_ids", "_slots")

    def __init__(self, prompt: Sequence[int], generated: Sequence[int] = ()) -> None:
        self._slots = {token: slot for slot, token in enumerate(dict.fromkeys(prompt))}
        self._ids = np.array(list(self._slots), dtype=np.int64)
        self._counts = np.zeros(len(self._slots), dtype=np.float32)
        for token in generated:
            self.add(token)

    def add(self, token: int) -> None:
        """The answer goes on with `token`."""
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._ids):
            room = max(len(self._ids), 64)
            self._ids = np.concatenate([self._ids, np.zeros(room, dtype=np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room, dtype=np.float32)])
        self._ids[slot] = token
        self._counts[slot] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """Each token of prompt and answer once."""
        return self._ids[: len(self._slots)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often the answer has each of `ids`."""
        return self._counts[: len(self._slots)]


def choose(
    logits: NDArray[np.float32], params: Sampling, position: int, history: TokenHistory | None = None,
    allowed: Allowed | None = None,
) -> Choice:  # fmt: skip
    """The token at `position`.

    logits: [vocab] float32, left as they are. position: index in the whole sequence of the token that is chosen.
    history: the tokens before it, where `params.needs_history`; it is not changed. allowed: [vocab], of which one token
    at least may be chosen; None: all. Raises ModelError when the logits are not numbers, when a history is needed and
    missing, or when the bias names a token beyond the vocabulary.
    """
    return told_of(logits, pick(logits, params, position, history, allowed), params.logprobs)


def pick(
    logits: NDArray[np.float32], params: Sampling, position: int, history: TokenHistory | None = None,
    allowed: Allowed | None = None,
) -> int:  # fmt: skip
    """The token of `choose` alone: what is told of it (told_of) takes longer than a greedy choice."""
    return _pick(adjust(logits, params, history, allowed), params, position)


def told_of(logits: NDArray[np.float32], token: int, count: int) -> Choice:
    """What is told of a token that follows: its log probability by these logits [vocab], and `count` of the most likely
    ones. Raises ModelError when the logits are not numbers."""
    _, peak = _best(logits)
    norm = peak + math.log(float(_weights(logits, peak, 1.0).sum(dtype=np.float64)))
    top = tuple((index, float(logits[index]) - norm) for index in _most_likely(logits, count))
    return Choice(token, float(logits[token]) - norm, top)


def margin_of(
    logits: NDArray[np.float32], params: Sampling, position: int, token: int, history: TokenHistory | None = None,
    allowed: Allowed | None = None,
) -> float:  # fmt: skip
    """How far `token` is from being the choice; 0 where it is, infinite where it is not allowed. Greedy: what its logit
    is below the best one. Sampled: what lies between the number that was drawn and the token's own part of all weight,
    as a share of that, 1 where the filters leave the token out. Other arguments as in `choose`."""
    adjusted = adjust(logits, params, history, allowed)
    best, peak = _best(adjusted)
    if allowed is not None and not allowed[token]:
        return math.inf
    if params.temperature < GREEDY_BELOW:
        return 0.0 if token == best else peak - float(adjusted[token])
    ids, weights = _candidates(adjusted, peak, params)
    at = token if isinstance(ids, slice) else int(np.searchsorted(ids, token))
    if not isinstance(ids, slice) and (at >= len(ids) or int(ids[at]) != token):
        return 1.0
    drawn, total = uniform(params.seed, position), float(weights.sum(dtype=np.float64))
    low = float(weights[:at].sum(dtype=np.float64)) / total
    high = low + float(weights[at]) / total
    return 0.0 if _draw(weights, drawn) == at else max(low - drawn, drawn - high, 0.0)


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that belongs to a position of a stream: 53 bits of Philox."""
    return float(int(np.random.Philox(key=seed, counter=position).random_raw()) >> 11) * 2.0**-53


# ---------------------------------------------------------------- logits


def adjust(
    logits: NDArray[np.float32], params: Sampling, history: TokenHistory | None, allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """Logits after the mask, which makes them -inf, bias and penalties: the same array when there are none. Raises
    ModelError as `choose` does."""
    if allowed is None and not params.logit_bias and not params.needs_history:
        return logits
    changed = logits.copy() if allowed is None else np.where(allowed, logits, np.float32(-np.inf))
    if params.logit_bias:
        ids = np.array([one.id for one in params.logit_bias], dtype=np.int64)
        if int(ids.max()) >= len(logits):
            raise ModelError(f"logit_bias names token {int(ids.max())}; this model has {len(logits)}")
        changed[ids] += np.array([one.bias for one in params.logit_bias], dtype=np.float32)
    if params.needs_history:
        if history is None:
            raise ModelError("penalties need the tokens of the stream, and the caller gave none")
        seen = changed[history.ids]
        factor, counts = np.float32(params.repetition_penalty), history.counts
        with np.errstate(over="ignore"):  # logits that become infinite are caught below, or cannot be chosen
            seen = np.where(seen < 0, seen * factor, seen / factor)
        if params.frequency_penalty != 0.0 or params.presence_penalty != 0.0:
            seen -= params.frequency_penalty * counts + params.presence_penalty * (counts > 0)
        changed[history.ids] = seen
    return changed


def _best(logits: NDArray[np.float32]) -> tuple[int, float]:
    """(the most likely token, its logit), the first of equals."""
    best = int(logits.argmax())  # the first that is not a number, when there is one
    peak = float(logits[best])
    if not math.isfinite(peak):
        raise ModelError("the model computed no numbers: damaged weights, or values too large for this dtype")
    return best, peak


def _most_likely(logits: NDArray[np.float32], count: int) -> list[int]:
    """The `count` most likely tokens, the likeliest first, equal ones by id."""
    if count == 0:
        return []
    ids = _largest(logits, min(count, len(logits)))
    order: list[int] = ids[np.argsort(-logits[ids], kind="stable")].tolist()
    return order


# ---------------------------------------------------------------- the choice


def _pick(logits: NDArray[np.float32], params: Sampling, position: int) -> int:
    best, peak = _best(logits)
    if params.temperature < GREEDY_BELOW:
        return best
    ids, weights = _candidates(logits, peak, params)
    index = _draw(weights, uniform(params.seed, position))
    return index if isinstance(ids, slice) else int(ids[index])


def _candidates(logits: NDArray[np.float32], peak: float, params: Sampling) -> tuple[NDArray[np.intp] | slice, Floats]:
    """(ids, weights) of the tokens that the filters leave, by rising id; the weight of the most likely one is 1."""
    ids: NDArray[np.intp] | slice = slice(None)
    values = logits
    if 0 < params.top_k < len(logits):
        ids = _largest(logits, params.top_k)
        values = logits[ids]
    weights = _weights(values, peak, params.temperature)
    kept: NDArray[np.intp] | None = None
    if 0.0 < params.top_p < 1.0:
        kept = _nucleus(values, weights, peak, params)
    if params.min_p > 0.0:
        likely = weights >= params.min_p
        kept = np.flatnonzero(likely) if kept is None else kept[likely[kept]]
    if kept is None:
        return ids, weights
    return kept if isinstance(ids, slice) else ids[kept], _weights(values[kept], peak, params.temperature)


def _weights(values: NDArray[np.float32], peak: float, temperature: float) -> Floats:
    """exp((values - peak) / temperature)."""
    kind = np.float64 if len(values) <= _EXACT_UP_TO else np.float32
    with np.errstate(over="ignore", under="ignore"):  # a very small temperature
        weights: Floats = np.subtract(values, peak, dtype=kind)
        if temperature != 1.0:
            weights /= temperature
        return np.exp(weights, out=weights)


def _largest(values: NDArray[np.float32], count: int, least: float | None = None) -> NDArray[np.intp]:
    """Indices of the `count` largest values, rising; of equal ones the first. `least`: the smallest of these values,
    where it is known."""
    if least is None:
        least = float(np.partition(values, len(values) - count)[len(values) - count])
    taken = values >= least
    surplus = int(np.count_nonzero(taken)) - count
    if surplus > 0:
        taken[np.flatnonzero(values == least)[-surplus:]] = False
    return np.flatnonzero(taken)


def _nucleus(values: NDArray[np.float32], weights: Floats, peak: float, params: Sampling) -> NDArray[np.intp]:
    """Indices of the fewest largest values that have the share `top_p` of all weight."""
    total = float(weights.sum(dtype=np.float64))
    # All weights below this together are less than 1 - top_p: none of them is wanted, and few are left to be sorted.
    wanted = values[weights >= total * (1.0 - params.top_p) / len(values)]
    wanted = np.sort(wanted)[::-1]
    reached = np.cumsum(_weights(wanted, peak, params.temperature), dtype=np.float64)
    count = min(int(np.searchsorted(reached, params.top_p * total, side="left")) + 1, len(wanted))
    return _largest(values, count, float(wanted[count - 1]))


def _draw(weights: Floats, share: float) -> int:
    """The first index up to which more than `share` of all weight lies; never one without weight.

    In blocks, since a running sum over a whole vocabulary takes longer than everything else."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    bounds = np.cumsum(sums)
    point = share * float(bounds[-1])
    block = _reached(bounds, point)
    before = float(bounds[block - 1]) if block else 0.0
    inner = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    return block * _BLOCK + _reached(inner, point - before)


def _reached(bounds: NDArray[np.float64], point: float) -> int:
    """The first index whose bound is above `point`; when rounding puts it past the end, the last that has weight."""
    index = int(np.searchsorted(bounds, point, side="right"))
    return index if index < len(bounds) else int(np.searchsorted(bounds, bounds[-1], side="left"))
