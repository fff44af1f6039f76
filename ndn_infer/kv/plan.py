"""Fetch or recompute: how many blocks of a prompt's held KV to compute here while the others are fetched.

Owns: the estimates (what the network and the engines did lately) and the rule that weighs them. Pure: numbers in, a
plan out, `now` is passed in. Must not know: names, tensors, clocks, who fetches or computes.

The head of the held prefix can be computed while its tail is on its way, because a block only needs those before it.
So the time of a plan is the longer of both, and the best split is where they meet (compute-or-load, as in CacheGen and
CacheBlend, here per prompt and from measured speeds).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

WEIGHT: Final = 0.3
"""Of the newest measurement in an average."""

MEMORY_S: Final = 120.0
"""An average that nothing renewed for so long is forgotten: a network that was slow is tried again."""

LEAST_BYTES: Final = 64_000
LEAST_TOKENS: Final = 16
"""Smaller transfers and computations say more about delays than about speed."""

REMOTE_PATIENCE: Final = 4.0
"""A prefill producer is left alone when it would take so many times as long as computing here. Above 1, because what
is computed here holds up the streams that decode here."""

SLACK_S: Final = 0.25

MOST_PATIENCE_S: Final = 1.5
ALWAYS_PATIENCE_S: Final = 10.0
"""Where prefill producers are to be asked always."""

UNANSWERED_S: Final = 10.0
"""For so long no prefill producer is asked after none had answered."""

MOST_BUSY: Final = 0.35
LEAST_WAIT_S: Final = 0.02
"""Fetching that is quicker leaves nothing to hide computing behind."""

SHARING: Final = 1.25
"""What doing both at the same time costs before anybody measured it: fetching and computing share processors and
memory. A network four times as quick as the engine is then left alone with the work."""

MOST_SHARING: Final = 10.0


class Costs(NamedTuple):
    """What a plan rests on; None for what nobody measured yet. Speeds: bytes and tokens a second."""

    block_bytes: int
    block_tokens: int
    round_trip_s: float = 0.0
    goodput: float | None = None
    prefill: float | None = None
    engine_wait_s: float = 0.0
    """Until the engine begins with what it is asked for now."""
    sharing: float = 1.0
    """Factor on the time of a plan that does both."""

    def fetch_s(self, blocks: int) -> float:
        """To have so many blocks, fetched. 0 while nobody knows: trying is how one learns."""
        if blocks == 0 or self.goodput is None:
            return 0.0
        return self.round_trip_s + blocks * self.block_bytes / self.goodput

    def compute_s(self, blocks: int) -> float:
        """To have so many blocks, computed here; endless while nobody knows."""
        if blocks == 0:
            return 0.0
        if self.prefill is None:
            return float("inf")
        return self.engine_wait_s + blocks * self.block_tokens / self.prefill


class LoadPlan(NamedTuple):
    """Compute the first `recompute` blocks of what is held, fetch the `fetch` after them, at the same time."""

    recompute: int
    fetch: int
    estimate_s: float
    fetch_all_s: float
    compute_all_s: float


def choose(held: int, costs: Costs) -> LoadPlan:
    """The split of `held` blocks with the least estimated time; of equal ones that which computes least."""
    best = min(range(held + 1), key=lambda head: (_time(head, held, costs), head))
    return LoadPlan(best, held - best, _time(best, held, costs), costs.fetch_s(held), costs.compute_s(held))


def _time(head: int, held: int, costs: Costs) -> float:
    both = costs.sharing if 0 < head < held else 1.0
    return both * max(costs.compute_s(head), costs.fetch_s(held - head))


def ask_elsewhere(missing: int, costs: Costs, remote: float | None, *, queue: int = 0) -> bool:
    """Whether a prefill producer should compute `missing` blocks, rather than the engine here.

    `remote` is the speed at which blocks came from such producers, tokens a second; `queue` how many prompts stand
    before ours there, each taken to be as long as ours. Without measurements: yes, that is what they are for.
    """
    if missing == 0:
        return False
    if remote is None or costs.prefill is None:
        return True
    there = SLACK_S + (queue + 1) * missing * costs.block_tokens / remote
    return max(there, costs.fetch_s(missing)) <= REMOTE_PATIENCE * (SLACK_S + costs.compute_s(missing))


def patience_s(missing: int, costs: Costs) -> float:
    """How long the first answer of a prefill producer is waited for: one that is there says at once where blocks will
    be, and one that is not must not cost more than it could save."""
    return min(REMOTE_PATIENCE * (SLACK_S + costs.compute_s(missing)), MOST_PATIENCE_S)


def layer_by_layer(plan: LoadPlan, costs: Costs, busy: float | None) -> bool:
    """Whether blocks are fetched side by side, and the rest of the prompt is computed through those layers that are
    there.

    That hides the computing behind the waiting, where one waits for the network. Where taking packets keeps a processor
    `busy`, both only get in each other's way (docs/kv_by_name.md); and a head that is computed here has to be there
    first.
    """
    waits = busy is not None and busy < MOST_BUSY and costs.fetch_s(plan.fetch) >= LEAST_WAIT_S
    return waits and plan.fetch > 0 and plan.recompute == 0


@dataclass(slots=True)
class Average:
    """Exponentially weighted, and forgotten when nothing renews it."""

    _value: float | None = None
    _at: float = 0.0

    def add(self, value: float, now: float) -> None:
        old = self.value(now)
        self._value = value if old is None else (1 - WEIGHT) * old + WEIGHT * value
        self._at = now

    def value(self, now: float) -> float | None:
        return self._value if now - self._at <= MEMORY_S else None


@dataclass(slots=True)
class Estimates:
    """Speeds of late. Every method takes `now`, monotonic seconds. `policy`: whether prefill producers are asked by
    these speeds ("auto"), "always" or "never" (engine.prefill_elsewhere)."""

    policy: str = "auto"
    goodput: Average = field(default_factory=Average)
    prefill: Average = field(default_factory=Average)
    remote: Average = field(default_factory=Average)
    busy: Average = field(default_factory=Average)
    """Share of the time of fetches that this thread computed."""
    sharing: Average = field(default_factory=Average)
    _prefilled: tuple[int, float] = (0, 0.0)
    _unanswered_at: float = float("-inf")
    _another_at: float = float("-inf")
    _delivered_at: float = float("-inf")

    def fetched(self, size: int, seconds: float, round_trip_s: float, now: float, *, busy_s: float = 0.0) -> None:
        """`size` bytes of KV took `seconds`, the first of them a round trip of `round_trip_s`; `busy_s` of them this
        thread computed."""
        if size >= LEAST_BYTES and seconds > 0:
            self.busy.add(busy_s / seconds, now)
            self.goodput.add(size / max(seconds - round_trip_s, 0.1 * seconds, 1e-6), now)

    def engine(self, tokens: int, seconds: float, now: float) -> None:
        """The engine's counters: `tokens` of prompts computed in `seconds` since it was loaded."""
        new_tokens, new_s = tokens - self._prefilled[0], seconds - self._prefilled[1]
        if new_tokens >= LEAST_TOKENS and new_s > 0:
            self.prefill.add(new_tokens / new_s, now)
            self._prefilled = (tokens, seconds)

    def outcome(self, plan: LoadPlan, costs: Costs, seconds: float, now: float) -> None:
        """A plan made from `costs` took `seconds`. One that did both tells what that costs beyond each alone."""
        alone = max(costs.compute_s(plan.recompute), costs.fetch_s(plan.fetch))
        if plan.recompute and plan.fetch and alone > 0:
            self.sharing.add(min(max(seconds / alone, 1.0), MOST_SHARING), now)

    def unanswered(self, now: float) -> None:
        """No prefill producer answered."""
        self._unanswered_at = now

    def ask_elsewhere(self, missing: int, costs: Costs, now: float, *, queue: int = 0) -> bool:
        """`ask_elsewhere`, by the policy and what is known `now`."""
        if self.policy != "auto":
            return self.policy == "always" and missing > 0
        there = now - self._unanswered_at >= UNANSWERED_S
        return there and ask_elsewhere(missing, costs, self.remote.value(now), queue=queue)

    def another(self, now: float) -> None:
        """A prefill producer answered that has an engine of its own."""
        self._another_at = now

    def only_here(self, now: float) -> bool:
        """Whether no prefill producer with an engine of its own was heard of lately."""
        return self.policy == "auto" and now - self._another_at > MEMORY_S

    def elsewhere(self, tokens: int, seconds: float, now: float) -> None:
        """A prefill producer delivered `tokens` in `seconds`. The first time for long, this says nothing of its speed:
        keys were looked up, and memory was touched for the first time. Believed, one such time would leave a quick
        producer alone for `MEMORY_S`."""
        if tokens < LEAST_TOKENS or seconds <= 0:
            return
        if now - self._delivered_at <= MEMORY_S:
            self.remote.add(tokens / seconds, now)
        self._delivered_at = now

    def patience_s(self, missing: int, costs: Costs) -> float:
        """`patience_s`, by the policy."""
        return ALWAYS_PATIENCE_S if self.policy == "always" else patience_s(missing, costs)
