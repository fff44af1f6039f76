"""Some layers of a model in one process: their steps, their KV, and the activations that they take from others.

Owns: the thread that computes, pulling a step's input from the stage before, computing again what this stage has lost.
Must not know: who asked, sampling, what is published, how sequences are cut (stage_steps.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ndn_infer import ndn
from ndn_infer.config import EngineConfig
from ndn_infer.engine.stage import Sequences, Stage
from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.engine.weights import DTYPES
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import BadRecord, CallError, KeyNotAllowed, NdnInferError, NetworkError
from ndn_infer.functions.base import Host
from ndn_infer.functions.compute_thread import ComputeThread
from ndn_infer.functions.stage_costs import StageCosts
from ndn_infer.functions.stage_steps import NO_KV, SERVICE, Cutter, StageReport, StageRequest, Step, function_before
from ndn_infer.namespace import Activation
from ndn_infer.ndn.name import Name
from ndn_infer.security.signer_policy import signer_policy
from ndn_infer.tensors import decode_tensor, encode_tensor, tensor_bytes
from ndn_infer.torch_tensors import WIRE_DTYPES, raw_of
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.transport.objects.live_stream import version_now

log = logging.getLogger(__name__)

Then = Callable[[Stage, Tensor], None]
MOST_GIVERS: Final = 1024
"""Sequences of which is known who computes them."""


class StageHost:
    """Layers `first` to `last` of one model; `start` loads them."""

    def __init__(self, model: str, folder: Path, layers: tuple[int, int], config: EngineConfig) -> None:
        self.model = model
        self.layers = layers
        self.config = config
        self.cutter = Cutter(config.dtype, config.tokens_at_once)
        self._folder = folder
        self._thread = ComputeThread("stage")
        self._stage: Stage | None = None
        self._sequences: Sequences | None = None
        self._givers: OrderedDict[bytes, Name] = OrderedDict()
        self.waiting = 0

    async def start(self) -> Stage:
        """Raises as Stage.load does."""
        if self._stage is None:
            self._stage = await self._thread.run(self._load)
            self._sequences = Sequences(self._stage, self.config.kv_memory_mib << 20)
        return self._stage

    async def close(self) -> None:
        await self._thread.close()

    @property
    def stage(self) -> Stage:
        assert self._stage is not None
        return self._stage

    @property
    def engine_class(self) -> EngineClass:
        """Also the component of names of activations: it says how they are to be read, and who computes equal ones."""
        return self.stage.engine_class

    def forget(self) -> None:
        """Give all KV back: sequences are computed again when somebody goes on with them."""
        assert self._sequences is not None
        self._sequences.clear()

    # ------------------------------------------------------------ computing

    async def compute(
        self, step: Step, before: Sequence[int], host: Host, *, inputs: asyncio.Task[Tensor] | None = None,
        then: Then | None = None, spent: StageCosts | None = None,
    ) -> Tensor:  # fmt: skip
        """Hidden states [n, hidden] of a step after these layers, or the logits [vocab] of its last token where these
        are the last. `before`: all tokens before it, or none where they are not known. `inputs`: `pull` begun already.
        `then` gets the stage and the hidden states, in the thread that computes; `spent` gets the CPU time of that,
        and what stages before say that they took.

        Raises CallError: with code NO_KV when the KV of the steps before is not here and `before` is not given.
        """
        spent = spent or StageCosts()
        await self._catch_up(step, before, host, spent)
        taken = await (inputs if inputs is not None else self.pull(step, before, host, spent))
        return await self._in_thread(step, taken, then, spent)

    def kept(self, run: Step, net: Name, content: Callable[[Name], bytes | None]) -> Tensor | None:
        """What `compute` gives for a run, put together from activations of its tokens that were given here, of which
        `content` gives the bytes; None where one is missing, or KV of the last one is."""
        assert self._sequences is not None
        if len(run.ids) == 1 or run.start < run.prompt or run.value not in self._sequences:
            return None
        layer, rows = self.layers[1] + 1, []
        for step in self.cutter.apart(run):
            given = content(self.activation(net, layer, step.name))
            if given is None:
                return None
            rows.append(self._decode(given, 1))
        return torch.cat(rows)

    async def pull(self, step: Step, before: Sequence[int], host: Host, spent: StageCosts) -> Tensor:
        """What a step takes here: its ids, or the activation of the stage before, by name, verified. `spent` gets what
        the stages before say that it took."""
        if self.stage.begins:
            return torch.tensor(step.ids)
        request = StageRequest(
            self.model,
            str(self.engine_class),
            step.start,
            step.prompt,
            step.ids,
            step.parent.hex(),
            self.cutter.chunk_tokens,
        )
        try:
            content = await self._ask(request, step, (before, spent), host)
        except CallError as error:
            if error.code != NO_KV or not before or request.start == 0:
                raise
            request = replace(request, before=tuple(before[: step.start]))
            content = await self._ask(request, step, (before, spent), host)
        host.counters["activations_pulled"] += 1
        host.counters["activation_bytes_pulled"] += len(content)
        return self._decode(content, len(step.ids))

    async def _ask(
        self, request: StageRequest, step: Step, known: tuple[Sequence[int], StageCosts], host: Host
    ) -> bytes:  # fmt: skip
        """Content of the activation that a request asks for, by a signer that is believed. Raises CallError,
        NetworkError, KeyNotAllowed."""
        function, (before, spent) = function_before(self.stage.first, self.model), known

        def on_answer(answered: Answered) -> None:
            self._believe(answered.signed_by.identity, host)
            self._gave(step, answered.hint)

        ask = Ask(SERVICE, function, request, first=self._givers.get(step.parent, b""), evidence=False)
        try:
            report = await host.caller.call(ask, StageReport, on_answer=on_answer)
        except NdnInferError:
            self._givers.pop(step.parent, None)
            raise
        if report.chain != step.name.hex():
            raise BadRecord("a stage answered for other tokens")
        spent.add(report.spent)
        if report.tensor:
            return report.tensor
        try:
            return await self._fetch(step, report, host, past_caches=bool(request.again))
        except NetworkError as error:
            if request.again:
                raise
            # A cache had the answer, but nobody has the activation any more. Another request gets past the cache.
            log.info("an activation is computed again: %s", error)
            again = replace(request, before=tuple(before[: step.start]), again=version_now())
            return await self._ask(again, step, known, host)

    def _gave(self, step: Step, hint: Name) -> None:
        """Whoever gave a step has its KV: the next one is asked there, of however many that could compute it."""
        self._givers[step.value] = hint
        while len(self._givers) > MOST_GIVERS:
            self._givers.popitem(last=False)

    async def _fetch(self, step: Step, report: StageReport, host: Host, *, past_caches: bool) -> bytes:
        """An activation from wherever the network has it, else from who published it: of several producers of one node,
        which have one identity, only the name tells which it is; of several producers of one stage, only the identity.
        Caches may still say that there is none."""
        base = self.activation(host.net, self.stage.first, step.name)
        most = tensor_bytes(*self._taken(len(step.ids)))
        try:
            found = await host.fetcher.discover(base, past_caches=past_caches)
            self._believe(found.signed_by.identity, host)
            return (await host.fetcher.collect(found, most=most)).content
        except (NetworkError, KeyNotAllowed):
            hints = (ndn.from_uri(report.holder),)
            found = await host.fetcher.discover(base, hints=hints, past_caches=True)
            self._believe(found.signed_by.identity, host)
            return (await host.fetcher.collect(found, most=most, hints=hints)).content

    def _believe(self, signer: Name, host: Host) -> None:
        """Raises KeyNotAllowed for a signer whose state of this model is not used (option kv.trusted_signers)."""
        if not signer_policy(host.config.kv.trusted_signers).believes(self.model, signer):
            raise KeyNotAllowed(
                f"activations of {ndn.to_uri(signer)} are not used", hint="kv.trusted_signers does not name it"
            )

    async def _catch_up(self, step: Step, before: Sequence[int], host: Host, spent: StageCosts) -> None:
        """Compute the KV of the steps before, as far as it is not here."""
        assert self._sequences is not None
        if step.start == 0 or step.parent in self._sequences:
            return
        if len(before) < step.start:
            raise CallError(f"layers {self.layers[0]}-{self.layers[1]} do not hold the KV of this text", code=NO_KV)
        past = await asyncio.to_thread(self.cutter.steps, before[: step.start], step.prompt)
        if not past or past[-1].value != step.parent:
            raise BadRecord("the tokens before a step do not hash to its parent")
        known = max((number for number, one in enumerate(past, 1) if one.value in self._sequences), default=0)
        for one in self.cutter.joined(past[known:]):
            inputs = await self.pull(one, before, host, spent)
            await self._in_thread(one, inputs, None, spent)
            host.counters["steps_computed_again"] += 1

    async def _in_thread(self, step: Step, inputs: Tensor, then: Then | None, spent: StageCosts) -> Tensor:
        self.waiting += 1
        try:
            return await self._thread.run(partial(self._timed, spent.own, step, inputs, then))
        finally:
            self.waiting -= 1

    def _load(self) -> Stage:
        config = self.config
        if config.threads > 0:
            torch.set_num_threads(config.threads)
        return Stage.load(self._folder, *self.layers, config)

    def _timed(self, spent: EngineSpent, step: Step, inputs: Tensor, then: Then | None) -> Tensor:
        began = time.thread_time()
        try:
            return self._run(step, inputs, then)
        finally:
            taken = time.thread_time() - began
            if step.start < step.prompt:
                spent.prefill_s += taken
            else:
                spent.decode_s += taken

    def _run(self, step: Step, inputs: Tensor, then: Then | None) -> Tensor:
        assert self._sequences is not None
        stage = self.stage
        cache = stage.sequence() if step.start == 0 else self._sequences.take(step.parent)
        if cache is None:
            raise CallError("the KV of this text was given up meanwhile", code=NO_KV)
        if step.start < step.prompt:
            hidden = stage.prompt(inputs, cache, step.prompt)
        else:
            hidden = stage.decode(inputs, cache)
        self._sequences.keep(step.parent, step.value, cache)
        if then is not None:
            then(stage, hidden)
        return (stage.logits(hidden[-1:])[0] if stage.ends else hidden).cpu()

    # ------------------------------------------------------------ names and bytes

    def activation(self, net: Name, layer: int, value: bytes) -> Name:
        """Base name of what `layer` takes for the step of this name."""
        return Activation(self.model, "public", str(self.engine_class), str(layer), value.hex()).to_name(net)

    def encode(self, hidden: Tensor) -> bytes:
        """Content of an activation: the numbers themselves."""
        return encode_tensor(raw_of(hidden))

    def _taken(self, count: int) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape of the activation of so many tokens."""
        return WIRE_DTYPES[DTYPES[self.config.dtype]], (count, self.stage.whole.hidden)

    def _decode(self, content: bytes, count: int) -> Tensor:
        """The tensor in *verified* content. Raises BadRecord for another dtype or shape."""
        raw, (dtype, shape) = decode_tensor(content), self._taken(count)
        if (raw.dtype, raw.shape) != (dtype, shape):
            raise BadRecord(f"an activation of {shape} was promised, {raw.dtype} {raw.shape} delivered")
        return torch.frombuffer(bytearray(raw.payload), dtype=DTYPES[self.config.dtype]).view(shape)
