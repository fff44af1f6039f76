"""The engine: token ids in, token ids and KV blocks out, many streams at once.

Owns: streams from `start` to their last token, what one step computes, counters. Must not know: text, names, packets,
asyncio, who holds KV blocks.

The life of a step: guess (next_tokens.py), plan (scheduler.py says whose tokens, kv_pool.py which blocks), compute one
row for each token that follows a finished prompt, all in one forward (llama.py), and chunks of prompts, then choose
(next_tokens.py). docs/engine.md tells it at length.

Used from one thread. Blocks are [layers, 2, kv_heads, block_tokens, head_dim], see kv_cache.py.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ndn_infer.config import EngineConfig
from ndn_infer.engine.energy import find_meter
from ndn_infer.engine.grammar import Grammars
from ndn_infer.engine.kv_pool import BlockPool
from ndn_infer.engine.next_tokens import SPECULATION, ModelLimits, NextTokens
from ndn_infer.engine.published import AnswerReading, PublishedAnswer
from ndn_infer.engine.sampler import Choice
from ndn_infer.engine.scheduler import Scheduler
from ndn_infer.engine.step_costs import StepCosts
from ndn_infer.engine.stream import BlockKeys, Counters, Extent, Sharing, StepOutput, Stream
from ndn_infer.errors import EngineUnavailable, ModelError, PromptError
from ndn_infer.records.sampling import Sampling

try:
    import torch
    from torch import Tensor

    from ndn_infer.engine.attention import LEAST_ROWS
    from ndn_infer.engine.device import room_to_compute, room_to_load
    from ndn_infer.engine.fallback import ModuleModel, load_model
    from ndn_infer.engine.kv_cache import KvPages, KvSequence
    from ndn_infer.engine.llama import Llama
    from ndn_infer.kv.layout import BlockLayout
except ImportError as error:
    raise EngineUnavailable(f"the engine needs a package that is not installed ({error})") from error

__all__ = ["Counters", "Engine", "StepOutput", "Stream"]

log = logging.getLogger(__name__)

_MIB = 1 << 20

_MAPPED_AHEAD = 32 * _MIB  # of KV memory, mapped before it is needed
_MAPPED_AT_ONCE = 8  # blocks: a millisecond, which a prompt that comes meanwhile waits


class Engine:
    """Make one with `Engine.load`. Every method is to be called from the same thread."""

    def __init__(self, model: Llama | ModuleModel, options: EngineConfig, grammars: Grammars | None = None) -> None:
        """`grammars`: those of the model's tokenizer, without which no answer can have one."""
        self.model_config = config = model.config
        self.engine_class = model.engine_class
        self.block_tokens = block_tokens = options.block_tokens
        self.counters = Counters()
        self.costs = StepCosts(meter=find_meter(options.device))
        self._model = model
        self._sharing = options.sharing
        self.layout = BlockLayout(config.layers, config.kv_heads, config.head_dim, block_tokens, model.dtype)
        useful = 2 * options.max_streams * -(-config.context_length // block_tokens)
        pool = BlockPool(max(min(options.kv_memory_mib * _MIB // self.layout.nbytes, useful), 1))
        self._pages = KvPages(self.layout, model.device, pool.blocks)
        self._scheduler: Scheduler[Stream] = Scheduler(pool, options, least_rows=LEAST_ROWS)
        limits = ModelLimits(config.context_length, model.row_share)
        self._next = NextTokens(SPECULATION[options.speculation], limits, self.counters, self._end)
        self.grammars = self._next.grammars = grammars
        self.stalled = False
        """No stream can be computed further before one is started, cancelled or supplied."""
        self._ahead = _MAPPED_AHEAD // self.layout.nbytes
        self._held: list[StepOutput] = []
        self._numbers = itertools.count(1)
        self._count()

    @classmethod
    def load(cls, folder: Path, options: EngineConfig | None = None) -> Engine:
        """Load a prepared folder. `threads` 0 leaves torch's number (all cores); it holds for the whole process.

        Raises EngineUnavailable (architecture, device, its memory), DamagedCache.
        """
        options = options or EngineConfig()
        if options.threads > 0:
            torch.set_num_threads(options.threads)
        started = time.monotonic()
        with room_to_load(options.device):
            model = load_model(folder, options)
            engine = cls(model, options, Grammars(folder, model.config.vocab_size))
        taken, kind = time.monotonic() - started, f"{options.dtype} with {options.precision} weights"
        log.info("loaded %s as %s on %s in %.2f s", folder.name[:16], kind, options.device, taken)
        return engine

    # ------------------------------------------------------------ streams

    def start(
        self, ids: Sequence[int], params: Sampling, prefix_blocks: Sequence[Tensor] = (), *, near: bool = False,
        cache_salt: str = "", arriving: bool = False, answered: int = 0,
    ) -> Stream:  # fmt: skip
        """Queue a stream; `step` computes it. `prefix_blocks` are the KV of the first tokens, from token 0 on; with
        `arriving` their contents are on their way, and `supply` says how far they are.

        When they cover the whole prompt its last token is computed again, since its logits are wanted, and the few
        before it that LEAST_ROWS asks for. `near`: what is left of the prompt, when it is less than a block, is
        computed as decoded tokens are: quicker, but the last bits are not those of a prompt; for KV that is not exact
        anyway. `cache_salt`: KV is shared with streams of the same salt only, so that nobody else can tell by the time
        of an answer what was asked. `answered`: so many of the last ids are generated ones. The stream goes on where
        another ended: penalties count these, and their KV is computed row by row, with the bits it had there. Raises
        PromptError (empty, too long, not token ids, more than the KV memory can hold), UsageError (a grammar that
        cannot be), BadRecord (a block of another model, dtype or size), Busy (`queue_limit` others wait already).
        """
        self._check(ids, room=1)
        last = min(len(ids) + params.max_tokens, self.model_config.context_length) - 1
        asked = max(len(ids) - answered, 1)
        return self._queue(
            tuple(ids), params, Extent(asked, asked, last), prefix_blocks,
            Sharing(cache_salt, near and not arriving, arriving),
        )  # fmt: skip

    def start_check(
        self, ids: Sequence[int], params: Sampling, published: PublishedAnswer, prefix_blocks: Sequence[Tensor] = (), *,
        cache_salt: str = "", answered: int = 0,
    ) -> Stream:  # fmt: skip
        """As `start`, for an answer that is there: its tokens are the guesses, and the stream ends with the first that
        this engine does not choose ("differs"), with the answer's own end, or, where it would go on, with "agrees".
        `published` says then what was compared."""
        self._check([*ids, *published.ids], room=0)
        last, asked = len(ids) + len(published.ids) - 1, max(len(ids) - answered, 1)
        return self._queue(
            tuple(ids), params, Extent(asked, asked, last), prefix_blocks, Sharing(cache_salt), published
        )  # fmt: skip

    def start_reading(
        self, ids: Sequence[int], params: Sampling, answer: Sequence[int], positions: Sequence[int], *,
        cache_salt: str = "", answered: int = 0,
    ) -> tuple[Stream, AnswerReading]:  # fmt: skip
        """Compute prompt and answer as one prompt, by the weights of prompts; margins of the answer's tokens at
        `positions` are in the reading when the stream has ended. KV of `ids` is shared. Errors as in `start`."""
        self._check([*ids, *answer], room=0)
        matcher = self._next.matcher(params, ids[len(ids) - answered :])
        reading = AnswerReading(ids, answer, params, positions, answered=answered, matcher=matcher)
        known = (*ids, *answer[:-1])
        extent = Extent(len(known), len(known), len(known))
        return self._queue(known, Sampling(max_tokens=1), extent, (), Sharing(cache_salt), reading), reading

    def start_prefill(
        self, ids: Sequence[int], prefix_blocks: Sequence[Tensor] = (), *, prompt_tokens: int = 0, cache_salt: str = ""
    ) -> Stream:
        """Queue a stream of which only the KV of all full blocks is wanted: `take_blocks` after each `step`, until it
        has `finished` ("done"). `prompt_tokens`: length of the prompt of which `ids` are the beginning, when it is
        longer; the last bits of bf16 KV follow it (attention.py). `cache_salt` and errors as in `start`."""
        self._check(ids, room=0)
        full, total = len(ids) // self.block_tokens * self.block_tokens, max(prompt_tokens, len(ids))
        return self._queue(tuple(ids[:full]), None, Extent(full, total, full), prefix_blocks, Sharing(cache_salt))

    @torch.inference_mode()
    def supply(self, stream: Stream, layers: int) -> None:
        """The first `layers` layers of all blocks that an `arriving` stream was started with are there. Its first chunk
        is computed through them while the others are awaited."""
        if stream.finished is not None or layers <= stream.arrived:
            return
        more = slice(stream.arrived, layers)
        for block, content in zip(stream.table, stream.imports, strict=False):
            self._pages.put(block, content, more)
        stream.arrived, stream.held = layers, False

    @torch.inference_mode()
    @room_to_compute()
    def step(self) -> list[StepOutput]:
        """Compute one step of everybody who runs: the next token of each, and a chunk of a prompt. The new tokens, in
        order; a stream may have several. Raises ModelError where the device has no memory for it."""
        self.costs.begin()
        self._next.guess([*self._scheduler.running, *(one for one in self._scheduler.waiting if one.published)])
        fresh = self._scheduler.pool.fresh
        plan = self._scheduler.plan()
        filled = {block for stream in plan.settled for block, _ in zip(stream.table, stream.imports, strict=False)}
        self._pages.clear([block for block in plan.allocated if block < fresh and block not in filled])
        for stream in plan.settled:
            self._settle(stream)
        outputs, self._held = self._held, []
        self.stalled = not plan.tokens
        if plan.rows:
            outputs += self._decode(plan.rows)
            self._next.took(plan.rows, self.costs.rows([(stream.spent, count) for stream, count in plan.rows]))
        for stream, count in plan.chunks:
            outputs += self._prefill_chunk(stream, count)
            self.costs.chunk(stream.spent, count)
        self.counters.stepped(len(plan.rows), plan.tokens)
        self._count()
        self.costs.end()
        return outputs

    def prepare(self) -> bool:
        """For whoever has nothing else to do: map some of the memory that the next prompt gets, whose first use costs
        2 us a page of 4 KiB (10 ms for 1,024 tokens of SmolLM2). Whether anything was done; to be called again until
        nothing is, which is after as many calls as there are blocks at most, over the engine's whole life."""
        fresh = self._scheduler.pool.map_ahead(self._ahead, _MAPPED_AT_ONCE)
        if fresh:
            self._pages.touch(fresh.start, fresh.stop)
        return len(fresh) > 0

    @property
    def idle(self) -> bool:
        """No stream runs or waits: `step` would do nothing."""
        return self._scheduler.idle

    @property
    def at_prompts(self) -> bool:
        """Whether the next step computes tokens of prompts, as far as that is known: it takes longer than one of single
        tokens."""
        return self._scheduler.at_prompts

    def refuse_if_busy(self) -> None:
        """Raises Busy when `start` would. May be asked from any thread."""
        self._scheduler.refuse_if_busy()

    def pause(self, stream: Stream, paused: bool = True) -> None:
        """Compute no more of a stream (nobody reads it), or go on with the same tokens: see Scheduler.pause."""
        (self._scheduler.pause if paused else self._scheduler.resume)(stream)
        self._count()

    def cancel(self, stream: Stream) -> None:
        """End a stream and free its KV. When it has ended, its blocks cannot be exported any more."""
        stream.cancelled = True
        stream.imports = ()
        stream.blocks.clear()
        if stream.finished is None:
            stream.finished = "cancelled"
            self._scheduler.end(stream, keep=False)
        self._count()

    def export_block(self, stream: Stream, index: int) -> Tensor:
        """A copy of one full block of a stream's KV. Raises ModelError when it is not computed or was freed."""
        if stream.cancelled:
            raise ModelError("the KV of this stream was freed")
        if stream.finished is None:
            return KvSequence(self._pages, stream.table, stream.length).export_block(index)
        keys = stream.shelve()
        if not 0 <= index < len(keys):
            raise ModelError(f"KV block {index} is not computed: {stream.length} tokens are")
        block = self._scheduler.pool.find(keys[index])
        if block is None:
            raise ModelError(f"KV block {index} of a stream that has ended was freed: its memory was reused")
        return self._pages.take(block)

    # ------------------------------------------------------------ prompts without tokens

    @torch.inference_mode()
    def first_layer(self, ids: Sequence[int]) -> Tensor:
        """KV [2, kv_heads, n, head_dim] of the first layer, whatever comes after it. Raises EngineUnavailable where
        transformers computes the model."""
        if not isinstance(self._model, Llama):
            raise EngineUnavailable("the layers of this model are not computed one by one here")
        return self._model.first_layer(torch.tensor(list(ids), device=self._model.device)).cpu()

    def take_blocks(self, stream: Stream) -> list[tuple[int, Tensor]]:
        """(index, block) of a stream of `start_prefill` that were computed since the last call."""
        blocks, stream.blocks = stream.blocks, []
        return blocks

    def prefill(
        self, ids: Sequence[int], prefix_blocks: Sequence[Tensor] = (), *, prompt_tokens: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """`start_prefill` for one who has nothing else to do: steps the engine, yields blocks as they get ready.
        Between two yields at most one step is computed; what it gave other streams, the next `step` returns."""
        stream = self.start_prefill(ids, prefix_blocks, prompt_tokens=prompt_tokens)
        try:
            while stream.finished is None:
                self._held = self.step()
                yield from self.take_blocks(stream)
        finally:
            self.cancel(stream)

    # ------------------------------------------------------------ a stream comes

    def _check(self, ids: Sequence[int], *, room: int) -> None:
        limit = self.model_config.context_length - room
        if not ids:
            raise PromptError("the prompt is empty")
        if len(ids) > limit:
            raise PromptError(f"the prompt has {len(ids)} tokens, this model takes {limit}")
        if not 0 <= min(ids) <= max(ids) < self.model_config.vocab_size:
            raise PromptError(f"token ids of this model are 0 to {self.model_config.vocab_size - 1}")

    def _queue(
        self, prompt: tuple[int, ...], params: Sampling | None, extent: Extent, blocks: Sequence[Tensor],
        sharing: Sharing, check: PublishedAnswer | AnswerReading | None = None,
    ) -> Stream:  # fmt: skip
        (asked, total, last), (salt, near, arriving) = extent, sharing
        pool = self._scheduler.pool
        if self._scheduler.blocks_for(last) > pool.blocks:
            room = pool.blocks * self.block_tokens
            hint = "set engine.kv_memory_mib higher, or ask for fewer tokens"
            raise PromptError(f"prompt and answer may have {last + 1} tokens, the KV memory holds {room}", hint=hint)
        imports = tuple(blocks[: len(prompt) // self.block_tokens])
        for index, block in enumerate(imports):
            self._pages.layout.check(index, block)
        number, known, imported = next(self._numbers), len(prompt), len(imports) * self.block_tokens
        wanted = asked - 1 if arriving else known - (params is not None)  # rows take KV that is there
        ready = self._ready(imported, asked, wanted)
        arriving = arriving and ready > 0
        as_decoded = near and imported > 0 and asked - imported < self.block_tokens
        if as_decoded:
            ready = min(imported, known - 1)
        stream = Stream(
            number=number, prompt_tokens=ready if as_decoded else asked, known=known, ready=ready, prompt=prompt,
            params=params, total=total, block_tokens=self.block_tokens, imports=imports if ready else (),
            exported=len(imports), held=arriving, arrived=0 if arriving else self.model_config.layers,
            keys=BlockKeys(self.block_tokens, self._apart(number, asked, total, salt, imported=ready > 0)),
        )  # fmt: skip
        stream.published = check if isinstance(check, PublishedAnswer) else None
        stream.scorer = check if isinstance(check, AnswerReading) else None
        if params is not None:
            params.check(self.model_config.vocab_size)
            self._next.begin(stream, len(prompt) - asked)
        if known == ready:
            stream.finished = "done"  # a prompt without a full block, or with nothing but known ones
        else:
            self._scheduler.add(stream)
        self.counters.blocks_imported += len(imports)
        self._count()
        return stream

    @staticmethod
    def _ready(imported: int, asked: int, wanted: int) -> int:
        """How many imported tokens are used: at least one row is to be computed where a token is wanted, and a prompt's
        last rows are computed together."""
        ready = min(imported, wanted)
        return ready if ready >= asked or asked - ready >= LEAST_ROWS else max(asked - LEAST_ROWS, 0)

    def _apart(self, number: int, prompt: int, total: int, salt: str, *, imported: bool) -> Callable[[int], object]:
        """What must be equal for a block of equal tokens to be shared: see stream.BlockKeys. The salt, and what the
        last bits of its KV depend on."""
        if self._sharing == "near":
            return lambda end: salt
        if self._sharing == "off" or imported:
            return lambda end: ("stream", number)
        return lambda end: (salt, self._model.kv_class(end, total)) if end <= prompt else ("stream", number)

    # ------------------------------------------------------------ a step

    def _settle(self, stream: Stream) -> None:
        """A stream got its blocks: put in what it brought along, give out what others have computed for it."""
        stream.waited_s = stream.waited_s or time.perf_counter() - stream.queued_at
        there = slice(0, stream.arrived)
        for block, content in zip(stream.table, stream.imports, strict=False):
            self._pages.put(block, content, there)
        stream.advance = None
        if not stream.ready:
            self.counters.tokens_shared += stream.length
        self._collect(stream)

    def _decode(self, rows: Sequence[tuple[Stream, int]]) -> list[StepOutput]:
        """One row for every token; logits where the next token is not known yet."""
        started = time.perf_counter()
        batch: list[tuple[KvSequence, list[int]]] = []
        choosing: list[Stream] = []
        wanted: list[int] = []
        at = 0
        for stream, count in rows:
            tokens = [*stream.after_prompt(), *stream.guesses][stream.length - stream.prompt_tokens :][:count]
            batch.append((KvSequence(self._pages, stream.table, stream.length), tokens))
            at += count
            if stream.length + count >= stream.known:
                wanted += range(at - 1 - stream.draft, at)
                choosing.append(stream)
            stream.length += count - stream.draft
            self.counters.tokens_recomputed += count - stream.draft - 1
            self.counters.tokens_guessed += stream.draft
        hidden = self._model.rows(batch)
        logits = self._model.logits(hidden[wanted] if len(wanted) < at else hidden).cpu() if wanted else hidden
        self.counters.decode_s += time.perf_counter() - started
        outputs, row = [], iter(logits)
        for stream in choosing:
            outputs += self._next.verify(stream, list(itertools.islice(row, stream.draft + 1)))
        return outputs

    def _prefill_chunk(self, stream: Stream, count: int) -> list[StepOutput]:
        """The next `count` tokens of a prompt, and the first token after it when that was the rest."""
        started, first = time.perf_counter(), stream.length
        if stream.advance is None:
            cache = KvSequence(self._pages, stream.table, first)
            chunk = torch.tensor(stream.prompt[first : first + count], device=self._model.device)
            stream.advance = self._model.begin(chunk, cache, stream.total, every=stream.scores)
        hidden = stream.advance(stream.arrived)
        self.counters.prefill_s += time.perf_counter() - started
        if hidden is None:
            stream.held = True
            return []
        stream.advance = None
        stream.length += count
        self.counters.tokens_prefilled += count
        known = max(-(-first // self.block_tokens), len(stream.imports))
        computed = max(stream.length // self.block_tokens - known, 0)
        stream.blocks_prefilled += computed
        self.counters.blocks_prefilled += computed
        for block, key in zip(stream.table, stream.shelve(), strict=False):
            self._scheduler.pool.register(block, key)
        self._collect(stream)
        return self._after_chunk(stream, hidden, first)

    def _after_chunk(self, stream: Stream, hidden: Tensor, first: int) -> list[StepOutput]:
        """What the hidden states of a prompt's rows from token `first` on tell: how likely its own tokens are, where
        that is wanted, and the token after the last one."""
        scores: tuple[Choice, ...] = ()
        try:
            if stream.scorer is not None:
                scores = stream.scorer.scores(self._model, hidden, first)
        except ModelError as error:
            self._end(stream, f"error: {error}")
            return [StepOutput(stream, -1, 0.0, stream.finished)]
        if stream.params is None or stream.length < stream.known:
            return [StepOutput(stream, -1, 0.0, None, scores=scores)] if scores else []
        return [self._next.choose(stream, self._model.logits(hidden[-1:])[0].cpu())._replace(scores=scores)]

    def _collect(self, stream: Stream) -> None:
        """Copies of a prompt's new blocks for `take_blocks`; the end of a stream that wants nothing else."""
        if stream.params is not None:
            return
        fresh = range(stream.exported, stream.length // self.block_tokens)
        stream.blocks += zip(fresh, self._pages.take_all([stream.table[index] for index in fresh]), strict=True)
        stream.exported = max(stream.exported, fresh.stop)
        if stream.length == stream.known:
            self._end(stream, "done")

    def _end(self, stream: Stream, how: str) -> None:
        stream.finished = how
        stream.imports = ()
        self._scheduler.end(stream)

    def _count(self) -> None:
        pool, counters = self._scheduler.pool, self.counters
        counters.streams_active, counters.waiting = len(self._scheduler.running), len(self._scheduler.waiting)
        counters.preemptions = self._scheduler.preemptions
        counters.blocks_used, counters.blocks_free, counters.blocks_cached = pool.used, pool.free, pool.cached
