"""Receipts that a reader of answers kept: entries, their JSON, and their sums by model, site, domain and day.

Owns: what an entry says, which entries count, what is added up. Whole numbers, so that sums are exact. Pure. Must not
know: prices (prices.py), files, who signed what.

An answer is known by the name of its stream, with version: read twice it is one entry. One that was there before it was
asked for (`stored`) cost producers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.json_fields import JsonObject, read_object
from ndn_infer.evidence.plain_json import canonical
from ndn_infer.records.receipt import MAX_STAGES, Energy, PromptTokens, Receipt, StageSpent

MAX_LINE: Final = 1 << 14
MAX_ENTRIES: Final = 1_000_000
_TOKENS: Final = 1 << 18
_SIZE: Final = (1 << 64) - 1
DAY_US: Final = 86_400_000_000
SIZES: Final = ("prefill_us", "decode_us", "helpers_us", "bytes_in", "bytes_out")
"""Fields of a receipt that are sums of their own."""


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """`stream`: URI with version; `producer`: the identity (URI) that signed it; `domain`: label of the tenant domain,
    or public; `at_us`: when its last event was read, microseconds of the Unix epoch."""

    stream: str
    producer: str
    model: str
    alias: str
    domain: str
    at_us: int
    stored: bool
    receipt: Receipt

    @property
    def day(self) -> int:
        """Days since the Unix epoch, in UTC."""
        return self.at_us // DAY_US

    @property
    def node(self) -> str:
        """Site and node of the producer, as `site/node`."""
        return "/".join(self.producer.split("/")[-3:-1])

    @property
    def site(self) -> str:
        return self.node.split("/")[0]

    def as_json(self) -> dict[str, Any]:
        receipt = asdict(self.receipt)
        return {
            "stream": self.stream, "producer": self.producer, "model": self.model, "alias": self.alias,
            "domain": self.domain, "at_us": self.at_us, "stored": self.stored, "receipt": receipt,
        }  # fmt: skip

    @classmethod
    def read(cls, given: JsonObject) -> KeptReceipt:
        """Raises BadRecord."""
        producer = given.text("producer", 4096)
        if producer.count("/") < 4:
            raise BadRecord(f"{given.where}.producer names no role of a node")
        return cls(
            given.text("stream", 4096), producer, given.text("model", 128), given.text("alias", 128),
            given.text("domain", 128), given.integer("at_us", 0, 1 << 62), given.flag("stored"),
            read_receipt(given.object("receipt")),
        )  # fmt: skip


def read_receipt(given: JsonObject) -> Receipt:
    """Raises BadRecord."""
    prompt, energy = given.object("prompt"), given.object("energy") if given.has("energy") else None
    sizes = {name: given.integer(name, 0, _SIZE, 0) for name in SIZES}
    return Receipt(
        given.text("engine", 128),
        PromptTokens(*(prompt.integer(item.name, 0, _TOKENS, 0) for item in fields(PromptTokens))),
        given.integer("output_tokens", 0, _TOKENS, 0),
        energy=None if energy is None else Energy(energy.integer("millijoules", 0, _SIZE), energy.text("source", 128)),
        stages=tuple(_stage(one) for one in given.objects("stages", MAX_STAGES)) if given.has("stages") else (),
        **sizes,
    )


def _stage(given: JsonObject) -> StageSpent:
    sizes = (given.integer(name, 0, _SIZE, 0) for name in ("prefill_us", "decode_us"))
    return StageSpent(given.text("identity", 4096), *sizes)


def write_line(entry: KeptReceipt) -> bytes:
    return canonical(entry.as_json()) + b"\n"


def read_line(line: bytes) -> KeptReceipt:
    """Raises BadRecord."""
    return KeptReceipt.read(read_object(line, "receipt", most=MAX_LINE))


def each_once(entries: Iterable[KeptReceipt]) -> list[KeptReceipt]:
    """One entry a stream, in the order of their first appearance: the one by whoever had it computed, where there is
    one. Raises BadRecord where two say other things of one answer."""
    found: dict[str, KeptReceipt] = {}
    for entry in entries:
        known = found.get(entry.stream)
        if known is not None and known.receipt != entry.receipt:
            raise BadRecord(f"two receipts of {entry.stream} say other things")
        if known is None or (known.stored and not entry.stored):
            found[entry.stream] = entry
        if len(found) > MAX_ENTRIES:
            raise BadRecord(f"more than {MAX_ENTRIES} receipts")
    return list(found.values())


@dataclass(slots=True)
class Usage:
    """Sums. `answers` cost something; `stored` were there before they were asked for, and add nothing else. `metered`
    of the answers have a reading of energy. Times in microseconds of CPU time."""

    answers: int = 0
    stored: int = 0
    content_store: int = 0
    peer: int = 0
    producer: int = 0
    local: int = 0
    computed: int = 0
    output_tokens: int = 0
    prefill_us: int = 0
    decode_us: int = 0
    helpers_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    metered: int = 0
    millijoules: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.cached + self.computed

    @property
    def cached(self) -> int:
        """Tokens of prompts whose KV was there already."""
        return self.content_store + self.peer + self.producer + self.local

    @property
    def cpu_us(self) -> int:
        """CPU time of engine threads and their helpers."""
        return self.prefill_us + self.decode_us + self.helpers_us

    def add(self, entry: KeptReceipt) -> None:
        if entry.stored:
            self.stored += 1
            return
        receipt = entry.receipt
        self.answers += 1
        for item in fields(PromptTokens):
            setattr(self, item.name, getattr(self, item.name) + getattr(receipt.prompt, item.name))
        for name in ("output_tokens", *SIZES):
            setattr(self, name, getattr(self, name) + getattr(receipt, name))
        if receipt.energy is not None:
            self.metered += 1
            self.millijoules += receipt.energy.millijoules

    def include(self, other: Usage) -> None:
        for item in fields(Usage):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


GROUPS: Final[dict[str, Callable[[KeptReceipt], str]]] = {
    "model": lambda entry: entry.alias or entry.model,
    "site": lambda entry: entry.site,
    "domain": lambda entry: entry.domain,
    "day": lambda entry: str(entry.day),
}
"""What sums can be grouped by, and the value of an entry."""


@dataclass(slots=True)
class UsageRow:
    """Sums of the entries with one `key` (a value of each group). `at` has their CPU time by (node, day), by which the
    price of a node is shared."""

    key: tuple[str, ...]
    usage: Usage = field(default_factory=Usage)
    at: dict[tuple[str, int], int] = field(default_factory=dict)


def grouped(entries: Iterable[KeptReceipt], by: Sequence[str]) -> list[UsageRow]:
    """In the order of their keys. `by`: names of GROUPS; none of them: one row of all."""
    rows: dict[tuple[str, ...], UsageRow] = {}
    for entry in entries:
        key = tuple(GROUPS[name](entry) for name in by)
        row = rows.setdefault(key, UsageRow(key))
        before = row.usage.cpu_us
        row.usage.add(entry)
        place = entry.node, entry.day
        row.at[place] = row.at.get(place, 0) + row.usage.cpu_us - before
    return [rows[key] for key in sorted(rows)]


def total(rows: Iterable[UsageRow]) -> Usage:
    whole = Usage()
    for row in rows:
        whole.include(row.usage)
    return whole
