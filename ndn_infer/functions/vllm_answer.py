"""Answers of vLLM: a prompt to its process, tokens back into the answer's stream.

Owns: vLLM as an AnswerEngine: how it is started from our options, what it can take on, one answer of it. Must not know:
how vLLM is talked to (vllm/backend), calls, packets. KV is vLLM's own matter: what its NamedKVConnector shares has
names of its own (docs/vllm.md).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ndn_infer import clock, ndn
from ndn_infer.config import EngineConfig
from ndn_infer.engine.grammar import Grammars, TokenMatcher
from ndn_infer.engine.sampler import Choice
from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import Busy, ConfigError
from ndn_infer.functions.answer_engine import AnswerOrder
from ndn_infer.functions.answer_records import PromptState
from ndn_infer.functions.answer_stream import Report
from ndn_infer.functions.base import Host
from ndn_infer.functions.capacity import CallTimes, Capacity, Occupied, Speeds, tokens_a_second
from ndn_infer.functions.receipts import receipt_of
from ndn_infer.records import KvSources, Progress
from ndn_infer.records.receipt import PromptTokens, Receipt
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.vllm.backend import mapping
from ndn_infer.vllm.backend.messages import GONE, EngineFacts, Made, Told
from ndn_infer.vllm.backend.process import VllmProcess
from ndn_infer.wire.pace import Meter

_DTYPES: Final = {"bf16": "bfloat16", "fp32": "float32"}
REPLAYS: Final = 3
"""How often tokens of one answer are decoded again: where it goes on, and where a reader comes back. Then it comes on
for a reader who leaves before they are there each time, too."""

_OURS: Final = ("model", "skip_tokenizer_init", "async_scheduling", "logprobs_mode")
"""Arguments that a producer decides: tokens in and out, log probabilities as our engine tells them."""


def engine_args(folder: Path, config: EngineConfig) -> dict[str, Any]:
    """vLLM's engine arguments: those of our options, over them `engine.vllm_args`. Raises ConfigError."""
    try:
        given = json.loads(config.vllm_args or "{}")
        if not isinstance(given, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise ConfigError(
            f"engine.vllm_args: {error}", hint="it is a JSON object of vLLM's engine arguments"
        ) from error
    if own := sorted(set(given) & set(_OURS)):
        raise ConfigError(f"engine.vllm_args: {', '.join(own)} is decided by the producer")
    return {
        "dtype": _DTYPES[config.dtype], "max_num_seqs": config.max_streams, "seed": 0,
        "enable_prefix_caching": config.sharing != "off", **given,
        "model": str(folder), "skip_tokenizer_init": True, "async_scheduling": False, "logprobs_mode": "raw_logprobs",
    }  # fmt: skip


def environment(config: EngineConfig) -> dict[str, str]:
    """Variables of vLLM's process. The chooser of tokens is written for vLLM's model runner V1."""
    wanted = {"VLLM_USE_V2_MODEL_RUNNER": "0", "HF_HUB_OFFLINE": "1"}
    if config.device == "cpu":
        wanted["VLLM_CPU_KVCACHE_SPACE"] = str(max(round(config.kv_memory_mib / 1024), 1))
        if config.threads:
            wanted |= {"OMP_NUM_THREADS": str(config.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return wanted


class VllmHost:
    """As AnswerEngine: one vLLM, for the functions of a process that share it."""

    shares: tuple[str, ...] = ()

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        self._config, self._folder = config, folder
        self._grammars: Grammars | None = None
        self.ends: frozenset[int] = frozenset()
        """The model's end tokens, which end an answer where its grammar may end."""
        self.most_answers = 2 * (config.max_streams + config.queue_limit)
        self.process = VllmProcess(
            config.vllm_python or sys.executable, engine_args(folder, config), environment(config)
        )
        self.replay: Final = config.vllm_replay
        """After so many tokens at most an answer is gone on with by decoding them again."""
        self._prefill, self._decode = Meter(), Meter()
        self._occupied = Occupied()
        self.prefilled = self.decoded = 0
        self.prefill_s = self.decode_s = 0.0
        self.running: set[VllmAnswer] = set()
        """Those that vLLM computes or has in its queue; none that is paused."""

    async def start(self, host: Host, signer: Signer) -> None:
        """As AnswerEngine.start."""
        facts = await self.process.start()
        if self._grammars is None:
            self._grammars = Grammars(self._folder, facts.vocabulary)
            self.ends = frozenset((await asyncio.to_thread(ChatTokenizer.load, self._folder)).eos_ids)

    async def close(self) -> None:
        """As AnswerEngine.close."""
        await self.process.close()

    @property
    def limits(self) -> VllmLimits:
        """As AnswerEngine.limits."""
        return VllmLimits(self._facts)

    @property
    def grammars(self) -> Grammars:
        """As AnswerEngine.grammars; vLLM's process compiles them again."""
        assert self._grammars is not None
        return self._grammars

    @property
    def engine_class(self) -> EngineClass:
        """As AnswerEngine.engine_class."""
        facts = self._facts
        return EngineClass(facts.dtype, facts.weights, facts.implementation, "paged", facts.machine)

    @property
    def _facts(self) -> EngineFacts:
        assert self.process.facts is not None
        return self.process.facts

    def refuse_if_busy(self) -> None:
        """As AnswerEngine.refuse_if_busy."""
        if not self.process.up:
            raise Busy("vLLM is being started again here; try again later", retry_after_s=5.0)
        if len(self.running) >= self._config.max_streams + self._config.queue_limit:
            raise Busy(f"{len(self.running)} answers are in work here; try again later")

    def speeds(self) -> Speeds:
        """As AnswerEngine.speeds."""
        return Speeds(
            self._prefill.read(self.prefilled, self.prefill_s), self._decode.read(self.decoded, self.decode_s)
        )

    def capacity(self, times: CallTimes) -> Capacity:
        """As AnswerEngine.capacity. What its cache holds is not told: it has other names."""
        speeds, places = self.speeds(), self._facts.places
        return Capacity(
            context=self._facts.context,
            places=places,
            free=max(places - len(self.running), 0) if self.process.up else 0,
            call_s=times.whole.unit_s,
            prompt_s=times.first_token.unit_s,
            prefill_tps=tokens_a_second(speeds.prefill_s),
            decode_tps=tokens_a_second(speeds.decode_s),
            load=self._occupied.look(self.prefill_s + self.decode_s, clock.monotonic()),
        )

    def answer(self, order: AnswerOrder) -> VllmAnswer:
        """As AnswerEngine.answer."""
        return VllmAnswer(self, order)

    def block_tokens(self) -> int:
        """Of vLLM's cache."""
        return self._facts.block_tokens


class VllmLimits:
    """As generation.Limits."""

    def __init__(self, facts: EngineFacts) -> None:
        self.context_length, self.vocab_size = facts.context, facts.vocabulary


class VllmAnswer:
    """As AnswerInMaking."""

    def __init__(self, engine: VllmHost, order: AnswerOrder) -> None:
        self._engine, self._order = engine, order
        self._answer, self._request = order.answer, order.request
        self._number = 0
        self._wanted = False
        self._began = self._last = 0.0
        self._noted = False
        self._again = 0
        """Tokens of the answer so far that are decoded again."""
        self._replayed = 0
        """Those of them that are still to come."""
        self._replays = REPLAYS
        self._prompt = PromptTokens()
        self._spent = EngineSpent()
        self._matcher: TokenMatcher | None = None
        if order.params.grammar is not None:  # what vLLM's process chose within it is looked at here
            answered = self._request.prompt[len(self._request.prompt) - self._request.answered :]
            self._matcher = engine.grammars.matcher(order.params.grammar, answered)

    def progress(self) -> Progress:
        """As AnswerInMaking.progress; vLLM does not tell how far a prompt is."""
        if not self._wanted:
            return Progress("queued")
        total = len(self._request.prompt) // self._engine.block_tokens()
        return Progress("decode") if self._noted else Progress("prefill", 0, 0, total)

    def receipt(self) -> Receipt:
        """As AnswerInMaking.receipt: its share of the processor time of vLLM's processes, none of a GPU's. Tokens that
        were decoded again are none of the prompt's, and their time is that of decoding."""
        return receipt_of(
            str(self._engine.engine_class), self._prompt, self._spent, bytes_in=len(self._order.job.wire)
        )  # fmt: skip

    def prompt_state(self) -> PromptState:
        """As AnswerInMaking.prompt_state."""
        return PromptState()

    def pause(self, paused: bool) -> None:
        """vLLM pauses no request: it is given up, and begun again after the tokens that there are, of which its cache
        has most."""
        if not self._wanted or self._answer.ended:
            return
        if paused:
            self._engine.process.stop(self._number)
            self._engine.running.discard(self)
            self._number = 0
        elif not self._number:
            self._begin()

    async def make(self) -> None:
        """As AnswerInMaking.make."""
        self._wanted, self._began = True, clock.monotonic()
        try:
            if not self._answer.away:
                self._begin()
            await self._answer.wait_ended()
        finally:
            self._engine.running.discard(self)
            self._engine.process.stop(self._number)

    def _begin(self) -> None:
        self._engine.running.add(self)
        made, params = tuple(self._answer.ids), self._order.params
        left = replace(params, max_tokens=params.max_tokens - len(made), score_prompt=False) if made else params
        salt = "" if self._order.job.domain is PUBLIC else self._order.job.domain.label
        self._last = clock.monotonic()
        ids, answered = self._request.prompt + made, self._request.answered + len(made)
        replays = answered <= self._engine.replay and self._replays and not left.score_prompt
        again = answered if replays else 0
        self._replays -= bool(again)
        prompt, self._again, self._replayed = ids[: len(ids) - again], again, again
        wanted = mapping.params_of(left, answered - again, self._engine.ends, ids[len(prompt) :])
        self._number = self._engine.process.begin(prompt, wanted, salt, self._on_made)

    # ------------------------------------------------------------ tokens out

    def _on_made(self, made: Made) -> None:
        """What a step gave, or the end."""
        answer = self._answer
        if answer.ended:
            return
        if made.finish == GONE:  # readers miss it, and go on at another producer
            answer.close()
            return
        if made.finish.startswith("error") or (made.finish and not made.tokens):
            answer.fail(made.finish if made.finish.startswith("error") else f"vLLM ended it: {made.finish}")
            return
        answer.tell_prompt([Choice(*score) for score in made.scores])
        first = bool(made.tokens) and not self._noted
        if first:
            self._note_first(made)
        self._charge(made, first=first)
        had = min(self._replayed, len(made.tokens))
        self._replayed -= had
        made = replace(made, tokens=made.tokens[had:])
        if made.tokens and not answer.ids:
            self._order.times.first_token.measured(1, clock.monotonic() - self._began)
        if made.finish and not made.tokens:
            answer.fail(f"vLLM ended it before it went on: {made.finish}")
        for token, finish in _with_finish(made):
            if not self._fits(token[0]):
                self._engine.process.stop(self._number)
                answer.fail("the answer cannot go on within its grammar, or its logits are no numbers")
            if answer.push(*token, finish):
                return

    def _fits(self, token: int) -> bool:
        """Whether the answer may go on with this token, as far as a grammar says."""
        if self._matcher is None:
            return True
        if self._matcher.valid([token]) < 1:
            return False
        if token not in self._matcher.ends:
            self._matcher.accept(token)
        return True

    def _charge(self, made: Made, *, first: bool) -> None:
        engine, now = self._engine, clock.monotonic()
        if first:
            self._spent.prefill_s += made.spent_s
            engine.prefilled += self._prompt.computed
            engine.prefill_s += made.prompt_s
        else:
            self._spent.decode_s += made.spent_s
            engine.decoded += len(made.tokens)
            engine.decode_s += (now - self._last) / max(len(engine.running), 1)
        self._last = now

    def _note_first(self, made: Made) -> None:
        """Where the prompt's KV came from, for report and meter."""
        self._noted = True
        total, block = len(self._request.prompt), self._engine.block_tokens()
        cached = min(made.cached, total - self._again)
        whole = cached // block
        self._prompt = PromptTokens(local=cached, computed=total - self._again - cached)
        sources = KvSources(
            local=whole,
            recomputed=max(total // block - whole, 0),
            tail_tokens=max(total % block, 1),
        )
        self._answer.report = Report(sources, holders=(ndn.to_uri(self._order.job.signer.identity),))
        meter = self._answer.meter
        meter.waited_s = made.waited_s
        meter.prompt_from(self._prompt)


def _with_finish(made: Made) -> Iterator[tuple[Told, str]]:
    """Each token, the last one with the reason why it is."""
    for place, token in enumerate(made.tokens, 1):
        yield token, made.finish if place == len(made.tokens) else ""
