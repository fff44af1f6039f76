"""What a named function is, and what it may use.

Owns: the contract between a function and the producer that hosts it (see docs/adding_a_function.md for a whole function
in under 40 lines). Must not know: how Interests are dispatched (producer.py), what any one function does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, TypeVar

from ndn_infer.config import Config
from ndn_infer.errors import Busy
from ndn_infer.functions.capacity import Capacity
from ndn_infer.metrics.meters import Meters
from ndn_infer.namespace import Call, Instance
from ndn_infer.ndn.name import Name
from ndn_infer.node.node import Node
from ndn_infer.offers.live.offers import Offers
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.records import Envelope, Record
from ndn_infer.security.access import Access
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch
from ndn_infer.security.validator import Validator
from ndn_infer.telemetry.spans import Tracer
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.direct import Questions
from ndn_infer.transport.calls.input_pull import InputPuller
from ndn_infer.transport.calls.inputs import new_instance
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.transport.objects.serve import Server
from ndn_infer.wire.shares import Seat, Seats

Q = TypeVar("Q", bound=Record)


@dataclass(frozen=True, slots=True)
class Host:
    """The network side that a producer process lends to its functions. `counters` go into its status record, which
    everybody can read: what is done for tenants is counted apart, in `tenant_counters`."""

    node: Node
    """The application that the process is in its network."""
    server: Server
    caller: Caller
    counters: Counter[str] = field(default_factory=Counter)
    tenant_counters: Counter[str] = field(default_factory=Counter)
    access: Access | None = None
    """Tenant domains this process is a member of; None: it answers public calls only."""
    pulls: InputPuller | None = None
    answers: Questions | None = None
    meters: Meters = field(default_factory=Meters)
    """For /metrics, which is for whoever runs this process: public and private work together."""
    tracer: Tracer | None = None
    """Makes spans of calls that are traced; None: of none."""
    offers: Offers | None = None
    """What others offer, as far as this process looks."""
    log_writers: LogWriters | None = None
    """Where calls are recorded, if a policy may want it."""
    instance: str = field(default_factory=new_instance)
    """Tells this process from others of the same identities."""

    @property
    def net(self) -> Name:
        return self.node.net

    @property
    def config(self) -> Config:
        return self.node.config

    @property
    def fetcher(self) -> Fetcher:
        return self.node.fetcher

    @property
    def validator(self) -> Validator:
        """For functions that judge packets themselves."""
        return self.node.validator

    @property
    def inputs(self) -> InputPuller:
        assert self.pulls is not None
        return self.pulls

    @property
    def questions(self) -> Questions:
        """Where questions to the identities of this process are answered."""
        assert self.answers is not None
        return self.answers

    def hint(self, signer: Signer) -> Name:
        """A routable prefix of this process, where it answers as the identity of `signer`."""
        return Instance.of(self.net, signer.identity, self.instance)

    def __post_init__(self) -> None:
        if self.answers is None:
            object.__setattr__(self, "answers", Questions(self.server))
        if self.pulls is None:
            object.__setattr__(self, "pulls", InputPuller(self.fetcher, self.net, self.config.producer.input_mib << 20))

    def for_tenants(self) -> Host:
        """The same, as private calls use it."""
        return replace(self, counters=self.tenant_counters)


@dataclass(frozen=True, slots=True)
class Job:
    """One call being worked on. `signer` is the key of the function's role."""

    host: Host
    call: Call
    envelope: Envelope
    signer: Signer
    domain: Domain = PUBLIC
    """Who shares what this call computes; of a private call the epoch that it was sealed in."""
    seat: Seat = field(default_factory=lambda: Seat(Seats(1), None))
    promised: list[Name] = field(default_factory=list)
    """What is going to be published beside the result; while somebody waits for one of these, the call is wanted."""
    wire: bytes = b""
    """The bytes whose digest is in the call's name; of a private call the sealed request, by `caller`."""
    caller: Name = b""
    afterwards: list[Callable[[], object]] = field(default_factory=list)
    """What is done once the answer has left: nobody waits for it."""

    @property
    def hint(self) -> Name:
        """A routable prefix of this process."""
        return self.host.hint(self.signer)

    @asynccontextmanager
    async def pulling(self) -> AsyncIterator[Fetcher]:
        """A fetcher for what the request names at its caller. It has a window and a deadline of its own, and the call
        holds no seat meanwhile: a caller that is silent slows nobody else down. Raises Busy, Timeout."""
        self.seat.give()
        async with self.host.inputs.window(self.seat.who) as pulling:
            yield pulling.fetcher
        if not self.seat.take():
            raise Busy(f"{self.call.function} is at its limit of calls; try again later")

    def promise(self, base: Name) -> None:
        """The object at `base` is going to be made by this call: Interests for it wait."""
        self.promised.append(base)
        self.host.server.promise(base)

    def open_stream(self) -> LiveStream:
        """The stream that answers this call; sealed where the call is private."""
        base = self.call.result().to_name(self.host.net)
        encrypt = self.domain.seal_event if isinstance(self.domain, DomainEpoch) else None
        made = self.host.server.open_stream(base, self.signer, encrypt)
        made.readers.kept_s = self.host.config.producer.kept_s
        return made


class NamedFunction(ABC, Generic[Q]):
    """A function that producers offer under a name.

    `subject` is what the function works on: ("model", digest), ("corpus", digest) or ("service", id). `role` names the
    key that signs its answers; the trust schema ties both together. `request_type` is the record that callers send.
    """

    function: str
    role: ClassVar[str]
    request_type: ClassVar[type[Record]]
    streams: ClassVar[bool] = False
    """Whether `run` gives a LiveStream, which is named at once."""
    quick_s: ClassVar[float] = 0.05
    """Calls that take longer, by estimate, are acknowledged at once: callers are told where the result will be, and
    when. Others are answered in one round trip."""
    patience_s: ClassVar[float] = 0.25
    """How long callers wait for the answer of a call that should have been quick, before they are told the same.
    Shorter than transport.calls.candidates.PATIENCE_S, after which they ask again."""
    unit_s: ClassVar[float] = 0.005
    """A guess at the seconds for one unit of work, until it was measured."""
    max_request_bytes: int = (1 << 20) + (1 << 16)
    """How large a canonical request may be: token ids as many as one record holds, and something beside them."""
    private: ClassVar[bool] = False
    """Whether calls may be private: all that `run` publishes, and every call it makes, is then of `Job.domain`."""
    subject: tuple[str, str]

    def take_at_most(self, payload: int) -> None:
        """For `start`: what no context of the model takes is not pulled from a caller either. `payload`: bytes of ids
        or text; what stands beside them in a request has 64 KiB."""
        self.max_request_bytes = min(self.max_request_bytes, payload + (1 << 16))

    @abstractmethod
    async def run(self, request: Q, job: Job) -> Record | LiveStream:
        """Compute the answer. A record is answered inline when small and soon, else published as the call's result;
        a LiveStream is answered at once by its name. Errors of the tree become signed error answers."""

    async def start(self, host: Host, signer: Signer) -> None:
        """Load what is needed before the first call; serve further prefixes. Nothing by default."""

    async def close(self) -> None:
        """Give back threads, files and memory. Nothing by default."""

    def serves(self, net: Name) -> tuple[Name, ...]:
        """Prefixes beside calls and results under which this function's objects lie."""
        return ()

    def units(self, request: Q) -> float:
        """How much work a request is, in units of which each takes about the same time (tokens, characters, texts)."""
        return 1.0

    def first_event_s(self, request: Q) -> float:
        """Of functions that stream: seconds until the first event, by what was measured; 0 when unknown."""
        return 0.0

    def engine_class(self) -> str:
        """The engine class that requests must name (engine_class.py), once it has started; "" where they name none."""
        return ""

    def capacity(self) -> Capacity:
        """What it could take on now, for its producer's offer, once it has started."""
        return Capacity()

    def queue_length(self) -> int:
        """Calls accepted and not yet begun."""
        return 0

    def in_work(self) -> int:
        """Streams that were begun and have not ended; calls without an answer are counted elsewhere."""
        return 0
