"""What the engine keeps of a stream and says about it.

Owns: one sequence in the making, keys of its blocks, the output of a step, counters. Must not know: how anything is
computed, whose turn it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ndn_infer import chain
from ndn_infer.engine.kv_pool import Key
from ndn_infer.engine.published import AnswerReading, PublishedAnswer
from ndn_infer.engine.sampler import Choice, TokenHistory
from ndn_infer.engine.scheduler import ScheduledSequence
from ndn_infer.engine.scoring import PromptScorer
from ndn_infer.engine.speculation import Drafter
from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.metrics.catalogue import STEP_STREAMS, STEP_TOKENS
from ndn_infer.metrics.meters import Histogram
from ndn_infer.records.sampling import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from ndn_infer.engine.grammar import TokenMatcher
    from ndn_infer.engine.llama import Advance


@dataclass(slots=True)
class Counters:
    """Since the engine was loaded; from `streams_active` on, as it is now."""

    tokens_prefilled: int = 0
    blocks_prefilled: int = 0
    """Full blocks of prompts that were computed here."""
    blocks_imported: int = 0
    tokens_shared: int = 0
    """Tokens of prompts whose KV another stream of this engine had computed."""
    tokens_decoded: int = 0
    tokens_recomputed: int = 0
    """Generated tokens whose KV was computed again after preemption."""
    tokens_guessed: int = 0
    """Speculation: tokens that were guessed and verified; how many of them were right is the next."""
    tokens_accepted: int = 0
    steps: int = 0
    step_streams: Histogram = field(default_factory=lambda: Histogram(STEP_STREAMS.buckets))
    """Streams that decoded in a step, where any did; the next: tokens computed in it."""
    step_tokens: Histogram = field(default_factory=lambda: Histogram(STEP_TOKENS.buckets))
    preemptions: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    streams_active: int = 0
    waiting: int = 0
    blocks_used: int = 0
    """KV blocks that streams hold. 0 when nobody is served."""
    blocks_free: int = 0
    """All others: never used, given back, or kept only in case somebody wants the same tokens again."""
    blocks_cached: int = 0
    """How many of the free ones are kept in case."""

    def stepped(self, streams: int, tokens: int) -> None:
        """One step, in which so many streams decoded, and so many tokens were computed."""
        self.steps += 1
        if streams:
            self.step_streams.observe(streams)
        if tokens:
            self.step_tokens.observe(tokens)


class BlockKeys:
    """Keys under which a stream's full blocks are known in the pool (kv_pool.py): the chain value, which stands for all
    tokens up to the block's end, and what else must be equal."""

    def __init__(self, block_tokens: int, apart: Callable[[int], object]) -> None:
        """`apart(end)`: blocks of equal tokens that end before token `end` are one only where this is equal too."""
        self._block = block_tokens
        self._apart = apart
        self._parent = chain.seed(block_tokens)
        self._keys: list[Key] = []

    def first(self, count: int, tokens: Sequence[int]) -> list[Key]:
        """Of the first `count` blocks of `tokens`, which continue those of the call before."""
        for start in range(len(self._keys) * self._block, count * self._block, self._block):
            self._parent = chain.extend(self._parent, tokens[start : start + self._block])
            self._keys.append((self._parent, self._apart(start + self._block)))
        return self._keys[:count]


class Extent(NamedTuple):
    """Of a stream: tokens that are computed as a prompt, those of the whole prompt that they begin, those whose KV it
    may need."""

    asked: int
    total: int
    last: int


class Sharing(NamedTuple):
    """What becomes of KV that a stream brings along, and who shares its own: as in Engine.start."""

    salt: str
    near: bool = False
    arriving: bool = False


@dataclass(eq=False, slots=True, kw_only=True)
class Stream(ScheduledSequence):
    """One sequence in the making. Its blocks can be exported until it is cancelled, and after its end until somebody
    else needs the memory."""

    prompt: tuple[int, ...]
    params: Sampling | None
    """None: only the prompt's KV is wanted, block by block."""
    total: int
    """Length of the prompt of which `prompt` is the beginning (the last bits of bf16 KV follow it)."""
    block_tokens: int
    keys: BlockKeys
    imports: tuple[Tensor, ...] = ()
    arrived: int = 0
    """So many layers of the imports are there."""
    advance: Advance | None = None
    """A chunk that waits for more of them."""
    generated: list[int] = field(default_factory=list)
    guesses: list[int] = field(default_factory=list)
    history: TokenHistory | None = None
    drafter: Drafter | None = None
    published: PublishedAnswer | None = None
    """What is compared with the tokens that are chosen; the drafter too."""
    drafted: bool = False
    """The guesses are the drafter's."""
    matcher: TokenMatcher | None = None
    """Where the answer stands in its grammar, when it has one."""
    exported: int = 0
    """Blocks of a prompt-only stream that were put into `blocks` or came with it."""
    blocks: list[tuple[int, Tensor]] = field(default_factory=list)
    blocks_prefilled: int = 0
    """Blocks of its prompt that were computed for it."""
    scorer: PromptScorer | AnswerReading | None = None
    """Where the prompt's own tokens are to be told with their probabilities: logits of every row are wanted."""
    queued_at: float = field(default_factory=time.perf_counter)
    """By time.perf_counter; so long it `waited_s` for its first blocks."""
    waited_s: float = 0.0
    cancelled: bool = False
    spent: EngineSpent = field(default_factory=EngineSpent)
    """What it took so far."""

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.generated]

    def after_prompt(self) -> list[int]:
        """Tokens that are computed as decoded ones: those after the first `prompt_tokens`."""
        return [*self.prompt[self.prompt_tokens :], *self.generated]

    @property
    def scores(self) -> bool:
        """Logits of every row of the prompt are wanted."""
        return self.scorer is not None and not self.scorer.complete

    def sharable(self) -> Sequence[Key]:
        wanted = self.known if self.params is None else self.known - 1
        if self.scorer is not None and not self.scorer.complete:
            wanted = self.scorer.rows_from
        return self.keys.first(wanted // self.block_tokens, self.tokens)

    def shelve(self) -> Sequence[Key]:
        return self.keys.first(self.length // self.block_tokens, self.tokens)


class StepOutput(NamedTuple):
    """`finished`: None while the stream goes on, then "stop" (a stop id came), "length", "differs" or "agrees" (of a
    published answer: published.py), or "error: ..." with `token_id` -1. `logprob` and `top`: see sampler.Choice.
    `scores`: the same of tokens of the prompt (scoring.py), which come before any other; `token_id` is -1 where no
    new token has come yet. `at`: when it came, by clock.monotonic, where somebody hands it on later than that; `more`:
    further ones of its stream are handed on with it."""

    stream: Stream
    token_id: int
    logprob: float
    finished: str | None
    top: tuple[tuple[int, float], ...] = ()
    scores: tuple[Choice, ...] = ()
    at: float = 0.0
    more: bool = False
