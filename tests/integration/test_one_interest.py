"""What one unsigned Interest may cost a producer: little in its event loop, whatever request it carries.

Requests are drawn over the records' whole types, most of them as large as an Interest takes, and some are near what
honest callers send, so that they get past the first checks. Processor time of this thread and memory are measured, no
clock on a wall; the limit follows how quick this machine is. What an answer costs beyond that is the engine's, in its
own thread, and is bounded by seats and queues.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import random
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from ndn_infer import records
from ndn_infer.config import Config, EngineConfig
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import NdnInferError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.models.store import ModelFolder
from ndn_infer.namespace import Call
from ndn_infer.records import Envelope, GenerateRequest, Record, Sampling
from ndn_infer.records.forms import (
    FixedForm,
    FloatForm,
    Form,
    HexForm,
    IntForm,
    LengthForm,
    ListForm,
    OptionalForm,
    PackedForm,
    RecordForm,
    WordForm,
)
from ndn_infer.records.prefill import PrefillRequest
from tests.engine_kit import engine_here
from tests.harness import NET, Node, keychain_in

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.model

LOOP_S: Final = 0.005
"""Processor time of the event loop in one piece, on a machine that adds as in UNIT_S."""
UNIT_S: Final = 0.0035
LOOP_MIB: Final = {"embed": 2.0}
"""What one request takes at most, 1 MiB where nothing is said; the answer of embed is rows for all of its ids."""
ROOM: Final = 7000
"""Bytes of a request that travels in an Interest, with all that stands around it."""
REQUESTS: Final = 24
"""Drawn for each function."""
MODEL: Final = "ab" * 32
ENGINE: Final = engine_here(EngineConfig())
LIFETIME_MS: Final = 60
TEXTS: Final = ("a", "\n", "\U0001f600", "é", "<|im_end|>", "{{", "\0", " word")


class Drawn:
    """Values of forms, at their bounds as often as between them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def record(self, form: RecordForm, room: int) -> Record:
        """One that takes `room` bytes at most, and mostly nearly as much. One field has most of the room."""
        names = list(form.forms)
        fat = self.dice.choice(names)
        given = {
            name: self.value(inner, int(room * 0.8) if name == fat else int(room * 0.15 / len(names)))
            for name, inner in form.forms.items()
        }
        made: Record = form.kind(**given)
        return made

    def value(self, form: Form, room: int) -> Any:
        dice = self.dice
        match form:
            case RecordForm():
                return self.record(form, room)
            case OptionalForm():
                return self.value(form.inner, room) if dice.random() < 0.8 else None
            case FixedForm():
                return tuple(self.value(inner, room // len(form.elements)) for inner in form.elements)
            case ListForm():
                count = self._count(form.bound.least, form.bound.most, room // 4)
                return tuple(self.value(form.element, room // max(count, 1) - 2) for _ in range(count))
            case PackedForm():
                count = self._count(0, form.bound.most, room // 4)
                kind = dice.choice((lambda: 7, lambda: dice.randrange(49_000), lambda: 2**32 - 1))
                return tuple(kind() for _ in range(count))
            case FloatForm():
                return dice.choice((form.bound.low, form.bound.high, min(max(0.5, form.bound.low), form.bound.high)))
            case IntForm():
                low, high = int(form.bound.low), int(form.bound.high)
                return dice.choice((low, high, min(max(dice.choice((1, 16, 5000)), low), high)))
            case WordForm():
                return dice.choice(form.bound.words)
            case HexForm():
                return dice.randbytes(form.size // 2).hex()
            case LengthForm():
                return self._long(form, room)
        return dice.random() < 0.5

    def _count(self, least: int, most: int, room: int) -> int:
        most = max(least, min(most, room))
        return self.dice.choice((least, most, most, self.dice.randint(least, most)))

    def _long(self, form: LengthForm, room: int) -> str | bytes:
        count = self._count(form.bound.least, form.bound.most, room)
        if form.kind is bytes:
            return self.dice.randbytes(count)
        unit = self.dice.choice(TEXTS)
        return (unit * count)[: max(form.bound.least, min(count, room // len(unit.encode()) * len(unit)))]


def requests_for(kind: type[Record], seed: int) -> Iterator[bytes]:
    """Encoded requests of a function, and some as honest callers make them but for one thing."""
    drawn, form = Drawn(seed), RecordForm.of(kind)
    made = 0
    while made < REQUESTS:
        with suppress(NdnInferError):  # it says itself that it is out of its bounds
            wire = records.encode(drawn.record(form, ROOM))
            if len(wire) <= ROOM:
                made += 1
                yield wire
    ids = tuple(drawn.dice.randrange(40_000) for _ in range(1500))
    for near in (
        GenerateRequest(Sampling(262_144, stop=("x" * 256,) * 16), ids[:600], ENGINE),
        GenerateRequest(Sampling(4, ignore_eos=True), ids, ENGINE, answered=1400),
        GenerateRequest(Sampling(4, logprobs=5), (223,) * 1600, ENGINE, answered=1599),
        PrefillRequest(blocks=("ab" * 32,) * 100, codec=f"raw.{EngineClass.parse(ENGINE).prompts}", block_tokens=16),
    ):
        if isinstance(near, kind):
            yield records.encode(near)


@dataclass
class Meter:
    """The most that one callback of the event loop took, processor time of this thread."""

    worst_s: float = 0.0
    worst: str = ""
    asked: str = ""

    @contextmanager
    def on(self) -> Iterator[None]:
        original = asyncio.Handle._run

        def run(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            told = repr(handle._callback)  # type: ignore[attr-defined]
            spent = time.thread_time() - began
            original(handle)
            took = time.thread_time() - began - spent
            if took > self.worst_s:
                self.worst_s, self.worst = took, f"{self.asked}: {told}"

        asyncio.Handle._run = run  # type: ignore[method-assign]
        try:
            yield
        finally:
            asyncio.Handle._run = original  # type: ignore[method-assign]


def slowness() -> float:
    """How many times slower than UNIT_S this machine adds a hundred thousand numbers; 1 when it is quicker."""
    times = []
    for _ in range(5):
        began, total = time.thread_time(), 0
        for number in range(100_000):
            total += number
        times.append(time.thread_time() - began)
    return max(1.0, min(times) / UNIT_S)


@pytest.fixture(scope="module")
def tiny(smollm2: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three thin layers with the real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(3)
    shape = transformers.LlamaConfig(
        vocab_size=49_152, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((smollm2.path / name).read_bytes())
    return folder


def functions_of(folder: Path, engine: EngineConfig) -> list[Any]:
    from ndn_infer.functions.decode import Generate
    from ndn_infer.functions.embed import EmbedTokens
    from ndn_infer.functions.kv_answer import AnsweringHost
    from ndn_infer.functions.prefill import Prefill
    from ndn_infer.functions.stage import RunStage
    from ndn_infer.functions.stage_host import StageHost
    from ndn_infer.functions.tokenize import Detokenize, Tokenize

    host = AnsweringHost(MODEL, folder, engine)
    return [
        Tokenize(MODEL, folder), Detokenize(MODEL, folder), EmbedTokens(MODEL, folder), Prefill(MODEL, host),
        Generate(MODEL, folder, host), RunStage(StageHost(MODEL, folder, (0, 1), engine)),
    ]  # fmt: skip


@contextmanager
def log_of_a_daemon() -> Iterator[None]:
    """Log lines are made and written, and nobody keeps them, as tests do."""
    root = logging.getLogger()
    before = list(root.handlers)
    with open(os.devnull, "w") as nowhere:
        root.handlers[:] = [logging.StreamHandler(nowhere)]
        try:
            yield
        finally:
            root.handlers[:] = before


async def worst_of(folder: Path, keys: Path, *, memory: bool) -> tuple[Meter, dict[str, float]]:
    """The worst callback, and by function the most memory (MiB) that one request took."""
    with log_of_a_daemon():
        return await _worst_of(folder, keys, memory=memory)


async def _worst_of(folder: Path, keys: Path, *, memory: bool) -> tuple[Meter, dict[str, float]]:
    engine = replace(EngineConfig(), kv_memory_mib=16, kv_at_hand_mib=4, max_streams=2, queue_limit=64, threads=1)
    config = replace(Config(), engine=engine)
    network, keychain = MemoryNetwork(), keychain_in(keys, "tokenize", "embed", "prefill", "decode", "stage", "user")
    node, stranger = [await Node(network, keychain, config, asks_as=label).open() for label in ("decode", "user")]
    functions = functions_of(folder, engine)
    producer = await node.produce(*functions)
    meter, worst = Meter(), Meter()
    most = dict.fromkeys((function.function for function in functions), 0.0)

    async def send(function: Any, wire: bytes, salt: int = 0) -> None:
        digest = hashlib.sha256(wire).hexdigest()
        name = Call(*function.subject, function.function, "shared", digest).to_name(NET)
        with suppress(NdnInferError):
            await stranger.endpoint.express(
                name,
                parameters=records.encode(Envelope(request=wire, salt=salt)),
                can_be_prefix=True,
                lifetime_ms=LIFETIME_MS,
            )

    try:
        for function in functions:  # once honestly refused: what is loaded at first is loaded
            await send(function, b"\x80")
        await asyncio.sleep(0.2)
        cases = [(one, list(requests_for(one.request_type, seed))) for seed, one in enumerate(functions)]
        gc.collect()
        gc.disable()
        with meter.on():
            for function, wires in cases:
                for wire in wires:
                    meter.asked = f"{function.function} {wire[:60]!r}"
                    takes, times = [], []  # twice, as work of its own: what comes once is not what a request takes
                    for salt in range(2):
                        meter.worst_s, before = 0.0, _traced(memory)
                        await send(function, wire, salt)
                        takes.append((_traced(memory, peak=True) - before) / (1 << 20))
                        await asyncio.sleep(0)  # now this callback has been measured, too
                        times.append((meter.worst_s, meter.worst))
                    most[function.function] = max(min(takes), most[function.function])
                    worst.worst_s, worst.worst = max((worst.worst_s, worst.worst), min(times))
    finally:
        gc.enable()
        await producer.close()
        for one in (stranger, node):
            await one.close()
        network.close()
    return worst, most


def _traced(on: bool, *, peak: bool = False) -> int:
    if not on:
        return 0
    now, most = tracemalloc.get_traced_memory()
    if not peak:
        tracemalloc.reset_peak()
    return most if peak else now


async def test_what_computes_in_the_event_loop_is_seen() -> None:
    meter = Meter()
    with meter.on():
        asyncio.get_running_loop().call_soon(lambda: sum(range(2_000_000)))
        await asyncio.sleep(0.01)
    assert meter.worst_s > LOOP_S and "lambda" in meter.worst


async def test_no_request_of_a_stranger_holds_up_the_event_loop(tiny: Path, tmp_path: Path) -> None:
    meter, _ = await worst_of(tiny, tmp_path / "keys", memory=False)
    assert meter.worst_s < LOOP_S * slowness(), meter


async def test_no_request_of_a_stranger_takes_much_memory(tiny: Path, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        _, most = await worst_of(tiny, tmp_path / "keys", memory=True)
    finally:
        tracemalloc.stop()
    assert not {function: mib for function, mib in most.items() if mib >= LOOP_MIB.get(function, 1.0)}, most
