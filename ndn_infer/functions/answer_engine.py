"""What `generate` needs of an engine, whatever computes.

Owns: these contracts. Must not know: who keeps them (engine_host.py for our own engine), KV, packets.

`Generate` (decode.py) takes the call, checks the request and turns tokens into a signed stream; an engine says what it
is and can take on, and makes one answer at a time: `answer(order).make()` pushes tokens into `order.answer` until that
has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ndn_infer.engine_class import EngineClass
from ndn_infer.functions.answer_records import PromptState
from ndn_infer.functions.answer_stream import AnswerStream
from ndn_infer.functions.base import Host, Job
from ndn_infer.functions.capacity import CallTimes, Capacity, Speeds
from ndn_infer.functions.generation import Limits
from ndn_infer.records import GenerateRequest, Progress
from ndn_infer.records.receipt import Receipt
from ndn_infer.records.sampling import Sampling
from ndn_infer.security.crypto import Signer

if TYPE_CHECKING:
    from ndn_infer.engine.grammar import Grammars


@dataclass(frozen=True, slots=True)
class AnswerOrder:
    """One answer to be made. `params`: of `request`, as generation.sampling_params has them. `crowded`: whether other
    answers are in work for somebody. `times`: where the time to the first token is entered."""

    request: GenerateRequest
    params: Sampling
    job: Job
    answer: AnswerStream
    crowded: Callable[[], bool]
    times: CallTimes


class AnswerInMaking(Protocol):
    """One answer, from its turn to its last token."""

    def progress(self) -> Progress:
        """Where it is: queued until `make` is called."""
        ...

    def pause(self, paused: bool) -> None:
        """Nobody reads it at the moment, or somebody does again: what nobody reads is not computed. Afterwards it goes
        on with the next token."""
        ...

    def receipt(self) -> Receipt:
        """What it took so far, without what AnswerStream counts."""
        ...

    def prompt_state(self) -> PromptState:
        """What of the prompt is known by name."""
        ...

    async def make(self) -> None:
        """Push tokens until the answer has ended. Raises NdnInferError, whose words end the answer."""
        ...


class AnswerEngine(Protocol):
    """`start` comes before all else and may be called again; who started it closes it."""

    most_answers: int
    """Those that nobody reads at the moment included."""
    shares: tuple[str, ...]
    """Kinds of blocks ("kv", "tokens") that it publishes under the names of a model, in this process."""

    async def start(self, host: Host, signer: Signer) -> None:
        """Raises EngineUnavailable, DamagedCache."""
        ...

    async def close(self) -> None: ...

    @property
    def engine_class(self) -> EngineClass: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def grammars(self) -> Grammars | None:
        """In which the grammars of requests are compiled before `answer`; None: it takes none."""
        ...

    def refuse_if_busy(self) -> None:
        """Raises Busy where no further answer would be begun, EngineUnavailable where none can be for now."""
        ...

    def speeds(self) -> Speeds: ...

    def capacity(self, times: CallTimes) -> Capacity: ...

    def answer(self, order: AnswerOrder) -> AnswerInMaking:
        """Raises CallError for what this engine cannot do."""
        ...
