"""stage: some layers of a model, as a named function.

Owns: the call "what do the layers up to mine give for these tokens", and which of its answers are objects at once.
Must not know: how they are computed (stage_host.py), who samples.

It takes part in a pipeline by the name of its function alone: what layer 15 takes is asked of whoever offers that,
which asks for what its own first layer takes, and so on down to the ids.
"""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.errors import CallError, UsageError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.generation import check_engine
from ndn_infer.functions.given_activations import GivenActivations
from ndn_infer.functions.stage_costs import StageCosts
from ndn_infer.functions.stage_host import StageHost
from ndn_infer.functions.stage_steps import SERVICE, StageReport, StageRequest, Step, function_before
from ndn_infer.namespace import activations_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record
from ndn_infer.security.crypto import Signer

INLINE_BYTES = 4096
"""Activations up to this size travel in the answer itself: one round trip for a token."""


class RunStage(NamedFunction[StageRequest]):
    role = "stage"
    request_type = StageRequest
    subject = SERVICE
    quick_s = NamedFunction.patience_s  # an acknowledgement tells the next stage nothing that it could use

    def __init__(self, host: StageHost) -> None:
        self._stages = host
        self._next = host.layers[1] + 1
        self.function = function_before(self._next, host.model)
        self._holder = self._me = ""

    async def start(self, host: Host, signer: Signer) -> None:
        stage = await self._stages.start()
        self._given = GivenActivations(host, signer)
        self.take_at_most(8 * stage.whole.context_length)
        self._holder, self._me = ndn.to_uri(host.hint(signer)), ndn.to_uri(signer.identity)
        if stage.ends:
            last, whole = self._next - 1, stage.whole.layers
            hint_text = f"offer decode:{stage.first}-{last}, which takes the activations of stages and gives tokens"
            raise UsageError(f"layer {last} of {whole} is the last one: nothing takes what it gives", hint=hint_text)

    async def close(self) -> None:
        await self._stages.close()

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (activations_prefix(net, self._stages.model, str(self._stages.engine_class), self._next),)

    def engine_class(self) -> str:
        return str(self._stages.engine_class)

    def queue_length(self) -> int:
        return self._stages.waiting

    async def run(self, request: StageRequest, job: Job) -> Record:
        step = self._step(request)
        base = self._stages.activation(job.host.net, self._next, step.name)
        held = self._given.size(base)
        if held:
            small = self._given.content(base) if held <= INLINE_BYTES else None
            return StageReport(step.name.hex(), self._holder, small or b"")
        hidden, spent = self._stages.kept(step, job.host.net, self._given.content), StageCosts()
        if hidden is None:
            hidden = await self._stages.compute(step, request.before, job.host, spent=spent)
        content = self._stages.encode(hidden)
        inline = len(content) <= INLINE_BYTES
        self._given.give(base, content, inline=inline)
        return StageReport(step.name.hex(), self._holder, content if inline else b"", spent.told(self._me))

    def _step(self, request: StageRequest) -> Step:
        """The step that a request means. Raises CallError (another model, engine class or length of pieces),
        BadRecord."""
        stages = self._stages
        check_engine(request.engine, stages.engine_class)
        mine = (stages.model, stages.cutter.chunk_tokens)
        if (request.model, request.chunk_tokens) != mine:
            text = f"this stage computes {mine[0]} in pieces of {mine[1]} tokens, not {request.model} in pieces of "
            raise CallError(f"{text}{request.chunk_tokens}", code="wrong-pieces")
        whole = stages.stage.whole
        return stages.cutter.check(request, whole.context_length, whole.vocab_size)
