"""Whose tokens are computed in the next step.

Owns: the order of streams, admission by free blocks, the step's budget, preemption, the bound of the queue. Must not
know: torch, what tokens mean, how anything is computed.

The rules, each of which a property test holds (tests/unit/test_engine_scheduler.py):

- First come, first served. Whoever is admitted came before whoever waits; the head of the queue is never passed by.
- A step takes the next token of every stream whose prompt is done, and after those at most `chunk_tokens` tokens of
  prompts, of guesses and of streams being recomputed (and `least_rows` - 1 more, rather than leave so few for another
  step). So a long prompt slows running streams by a bounded amount and never stops them.
- A stream is admitted when a seat and the blocks of all its known tokens are free; later ones are taken as it grows.
- When blocks run out, the stream admitted last gives all of its own up and waits at the head of the queue. The oldest
  stream is never preempted for another, so something always gets done: nobody starves.
- A stream that is paused holds nothing and is in nobody's way; it comes back as the last one.
- How a stream's prompt is cut depends on that stream only, never on who else is there (some attention kernels round by
  the cut, see attention.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ndn_infer.config import EngineConfig
from ndn_infer.engine.kv_pool import BlockPool, Key
from ndn_infer.errors import Busy


@dataclass(eq=False, slots=True, kw_only=True)
class ScheduledSequence:
    """What the scheduler knows of a stream."""

    number: int
    prompt_tokens: int
    """The first so many tokens are computed as a prompt, those after them one row each."""
    known: int
    """Tokens there are: prompt and generated."""
    ready: int = 0
    """Tokens whose KV the stream brings along; such a stream shares no blocks."""
    length: int = 0
    """Tokens whose KV is computed."""
    held: bool = False
    """Nothing of it can be computed now: KV that it brings along is on its way."""
    draft: int = 0
    """Guessed tokens beyond the known ones, to be verified in the next step if there is room."""
    table: list[int] = field(default_factory=list)
    """Blocks held, in order."""
    finished: str | None = None

    def sharable(self) -> Sequence[Key]:
        """Keys of the full blocks that this stream may take as they are, from its first token on. A stream that wants
        a token must leave its last known token out: its logits are wanted."""
        return ()

    def shelve(self) -> Sequence[Key]:
        """Keys under which its computed full blocks are worth keeping when it gives them up."""
        return ()


S = TypeVar("S", bound=ScheduledSequence)


@dataclass(frozen=True, slots=True)
class StepPlan(Generic[S]):
    """One step. `rows` and `chunks` hold streams and how many tokens of each, from its `length` on."""

    settled: list[S]
    """Streams that got their blocks in this step, or equal ones of others; `length` says what need not be computed."""
    allocated: list[int]
    """Blocks with new owners; what was in them is of no meaning."""
    rows: list[tuple[S, int]]
    chunks: list[tuple[S, int]]

    @property
    def tokens(self) -> int:
        return sum(count for _, count in [*self.rows, *self.chunks])


class Scheduler(Generic[S]):
    """Pure: no clock, no tensor. `plan` a step, compute it, advance seats' `length` and `known`, `end` who is done."""

    def __init__(self, pool: BlockPool, options: EngineConfig, *, least_rows: int = 1) -> None:
        self.pool = pool
        self.running: list[S] = []
        self.waiting: deque[S] = deque()
        self.preemptions = 0
        self._allocated: list[int] = []
        self._block = options.block_tokens
        self._least = least_rows
        self._chunk = max(options.tokens_at_once, least_rows)
        self._max_streams = options.max_streams
        self._queue_limit = options.queue_limit

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    @property
    def at_prompts(self) -> bool:
        """Whether a stream that runs is still at its prompt, or one comes next."""
        if self.waiting and len(self.running) < self._max_streams:
            return True
        return any(seat.length < seat.prompt_tokens and not seat.held for seat in self.running)

    def refuse_if_busy(self) -> None:
        """Raises Busy when one more stream would have to wait behind `queue_limit` others."""
        seats = self._max_streams - len(self.running)
        if len(self.waiting) >= self._queue_limit + seats:
            raise Busy(f"{len(self.running)} streams run and {len(self.waiting)} wait; try again later")

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._block)

    def add(self, seat: S) -> None:
        """Queue a stream. Raises Busy."""
        self.refuse_if_busy()
        self.waiting.append(seat)

    def end(self, seat: S, *, keep: bool = True) -> None:
        """A stream finished or was cancelled; its blocks are free at once. `keep`: somebody may want its KV again."""
        if seat in self.running:
            self.running.remove(seat)
        elif seat in self.waiting:
            self.waiting.remove(seat)
        self._give_up(seat, keep=keep)

    def pause(self, seat: S) -> None:
        """Take a stream out of turn. Its blocks and its place are free for others; what it computed is kept as long as
        nobody else needs the memory."""
        if seat in self.running:
            self.running.remove(seat)
            self._give_up(seat, keep=True)
            seat.length = 0
        elif seat in self.waiting:
            self.waiting.remove(seat)

    def resume(self, seat: S) -> None:
        """It comes back as if it had come now, and is not refused: it was let in before."""
        if seat.finished is None and seat not in self.running and seat not in self.waiting:
            self.waiting.append(seat)

    def plan(self) -> StepPlan[S]:
        """The next step. Blocks for everything in it are in the tables when this returns."""
        settled = self._admit()
        rows, budget = self._plan_rows(self._chunk)
        chunks = self._plan_chunks(budget, settled)
        allocated, self._allocated = self._allocated, []
        return StepPlan([seat for seat in settled if seat in self.running], allocated, rows, chunks)

    # ------------------------------------------------------------ inside

    def _admit(self) -> list[S]:
        admitted = []
        while self.waiting and len(self.running) < self._max_streams and self._seat_blocks(self.waiting[0]):
            admitted.append(self.waiting.popleft())
            self.running.append(admitted[-1])
        return admitted

    def _seat_blocks(self, seat: S) -> bool:
        """Take the blocks of all known tokens, shared ones where equal ones exist. False when there are too few."""
        shared = self._shared(seat)
        missing = self.blocks_for(seat.known) - len(shared)
        if missing + self.pool.idle(shared) > self.pool.free:
            return False
        self.pool.share(shared)
        seat.table = shared + self._allocate(missing)
        seat.length = len(shared) * self._block or seat.ready
        return True

    def _plan_rows(self, budget: int) -> tuple[list[tuple[S, int]], int]:
        rows = []
        prompts = any(seat.length < seat.prompt_tokens and not seat.held for seat in self.running)
        for seat in list(self.running):
            if seat.length < seat.prompt_tokens or seat.length == seat.known or not seat.table:
                continue  # still at its prompt, done, or preempted by an older one just now
            count = min(seat.known - seat.length, 1 + budget)
            guessing = count == seat.known - seat.length and not prompts  # prompts need the budget more
            seat.draft = min(seat.draft, budget, self._spare(seat)) if guessing else 0
            count += seat.draft
            if self._grow(seat, seat.length + count):
                rows.append((seat, count))
                budget -= count - 1
        return rows, budget

    def _plan_chunks(self, budget: int, settled: list[S]) -> list[tuple[S, int]]:
        chunks: list[tuple[S, int]] = []
        for seat in self.running:
            if budget <= 0:
                break
            if self._catch_up(seat) and seat not in settled:
                settled.append(seat)
            left = seat.prompt_tokens - seat.length
            if left <= 0 or seat.held:
                continue
            count = left if left < self._chunk + self._least else self._chunk
            if budget < self._chunk and count > budget:
                break
            chunks.append((seat, count))
            budget -= count
        return chunks

    def _spare(self, seat: S) -> int:
        """Tokens beyond the known ones that fit without preempting anybody."""
        blocks = len(seat.table) + self.pool.free
        return max(blocks * self._block - seat.known, 0)

    def _grow(self, seat: S, tokens: int) -> bool:
        """Blocks for the first `tokens` tokens; preempts the latest streams for it. False: `seat` was the latest."""
        missing = self.blocks_for(tokens) - len(seat.table)
        while missing > self.pool.free:
            latest = self.running.pop()
            self._give_up(latest, keep=True)
            latest.length = 0
            self.waiting.appendleft(latest)
            self.preemptions += 1
            if latest is seat:
                return False
        if missing > 0:
            seat.table += self._allocate(missing)
        return True

    def _allocate(self, count: int) -> list[int]:
        blocks = self.pool.allocate(count)
        self._allocated += blocks
        return blocks

    def _shared(self, seat: S) -> list[int]:
        shared = [] if seat.ready else self.pool.match(seat.sharable())
        while shared and 0 < seat.prompt_tokens - len(shared) * self._block < self._least:
            shared.pop()  # so few rows of a prompt would be computed otherwise than in a whole one
        return shared

    def _catch_up(self, seat: S) -> bool:
        """Streams that came together with equal prompts: the first has computed what the others can take."""
        shared = self._shared(seat) if seat.length == 0 else []
        if shared:
            self.pool.share(shared)
            self.pool.release(seat.table[: len(shared)])
            seat.table[: len(shared)] = shared
            seat.length = len(shared) * self._block
        return bool(shared)

    def _give_up(self, seat: S, *, keep: bool) -> None:
        if keep:
            for block, key in zip(seat.table, seat.shelve(), strict=False):
                self.pool.register(block, key)
        self.pool.release(seat.table)
        seat.table = []
