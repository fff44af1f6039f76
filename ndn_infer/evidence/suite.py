"""A suite: what a model is asked, and how its answers are scored; the predicate of a signed record.

Owns: the fields of a suite, their bounds, its JSON both ways, its digest. Pure. Must not know: how items are generated,
how anything is asked or scored, signatures.

A suite has its items inline, or names a generator that makes them from a seed; the digests of the generator's files and
of the items that it makes say whether somebody else makes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.json_fields import JsonObject, read_object
from ndn_infer.evidence.plain_json import canonical
from ndn_infer.evidence.scorers import Scorer
from ndn_infer.records.sampling import MAX_STOP_CHARACTERS, MAX_STOPS, Sampling

MAX_ITEMS: Final = 10_000
MAX_SUITE_BYTES: Final = 8 << 20
MAX_PROMPT: Final = 1 << 15
"""Characters of one item's prompt."""
MAX_TARGETS: Final = 16
MAX_CHOICES: Final = 16
MAX_TARGET: Final = 4096
"""Characters."""
MAX_LABEL: Final = 64
MAX_OPTIONS: Final = 32

_NUMBERS: Final = ("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `targets`: any of these is right; of a multiple choice the one that is among its `choices`."""

    id: str
    prompt: str
    targets: tuple[str, ...]
    choices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"id": self.id, "prompt": self.prompt, "targets": list(self.targets)}
        return document | ({"choices": list(self.choices)} if self.choices else {})

    @classmethod
    def read(cls, given: JsonObject, place: int) -> Item:
        """`id` may be missing (then it is the place, from 0), and `target` is one target. Raises BadRecord."""
        targets = given.texts("targets", MAX_TARGETS, MAX_TARGET)
        if given.has("target"):
            targets = (given.text("target", MAX_TARGET), *targets)
        choices = given.texts("choices", MAX_CHOICES, MAX_TARGET)
        item = cls(given.text("id", MAX_LABEL, str(place)), given.text("prompt", MAX_PROMPT), targets, choices)
        if not item.prompt.strip() or not targets:
            raise BadRecord(f"{given.where} has no prompt or no target")
        if choices and (len(targets) != 1 or choices.count(targets[0]) != 1):
            raise BadRecord(f"{given.where}: one of its choices, and one only, is the target")
        return item


@dataclass(frozen=True, slots=True)
class Generator:
    """A package that makes items. `files`: SHA-256 of its files (live/generators.py says how); `items`: that of
    the items that it made, as `items_digest`. `config` is what the data set is made with beside seed and count."""

    package: str
    version: str
    files: str
    dataset: str
    seed: int
    count: int
    items: str = ""
    config: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "package": self.package, "version": self.version, "files": self.files, "dataset": self.dataset,
            "seed": self.seed, "count": self.count, "items": self.items, "config": dict(self.config),
        }  # fmt: skip

    @classmethod
    def read(cls, given: JsonObject) -> Generator:
        return cls(
            given.text("package", MAX_LABEL), given.text("version", MAX_LABEL), given.digest("files"),
            given.text("dataset", MAX_LABEL), given.integer("seed", 0, (1 << 63) - 1),
            given.integer("count", 1, MAX_ITEMS), given.digest("items"), given.scalars("config", MAX_OPTIONS),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suite:
    """`items` are empty where a `generator` makes them. `system`: the system prompt, "" for none."""

    name: str
    scorer: Scorer
    sampling: Sampling
    items: tuple[Item, ...] = ()
    generator: Generator | None = None
    system: str = ""

    @property
    def count(self) -> int:
        return self.generator.count if self.generator is not None else len(self.items)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: what scores say they are scores of."""
        return hashlib.sha256(canonical(self.as_json())).hexdigest()

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": self.name, "system": self.system, "scorer": self.scorer.as_json(),
            "sampling": sampling_json(self.sampling),
        }  # fmt: skip
        if self.generator is not None:
            return document | {"generator": self.generator.as_json()}
        return document | {"items": [item.as_json() for item in self.items]}

    @classmethod
    def read(cls, given: JsonObject) -> Suite:
        """Raises BadRecord."""
        generator = Generator.read(given.object("generator")) if given.has("generator") else None
        items = tuple(Item.read(one, place) for place, one in enumerate(given.objects("items", MAX_ITEMS)))
        suite = cls(
            given.text("name", MAX_LABEL), Scorer.read(given.object("scorer")),
            sampling_of_json(given.object("sampling")), items, generator, given.text("system", MAX_PROMPT, ""),
        )  # fmt: skip
        suite.check()
        return suite

    def check(self) -> None:
        """Raises BadRecord for one that cannot be run: no items, an id twice, items that its scorer cannot score."""
        if (self.generator is None) == (not self.items):
            raise BadRecord(f"suite {self.name}: it has items or a generator, one of both")
        if len({item.id for item in self.items}) != len(self.items):
            raise BadRecord(f"suite {self.name}: two items have one id")
        self.scorer.check(bool(self.generator), [bool(item.choices) for item in self.items])


def parse_suite(content: bytes) -> Suite:
    """A suite's JSON. Raises BadRecord."""
    return Suite.read(read_object(content, "suite", most=MAX_SUITE_BYTES))


def items_of_lines(text: str) -> tuple[Item, ...]:
    """JSON lines: one item a line (prompt, target or targets, choices, id). Raises BadRecord that names the line."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > MAX_ITEMS:
        raise BadRecord(f"{len(lines)} items, and {MAX_ITEMS} are the most")
    most = 8 * MAX_PROMPT
    return tuple(
        Item.read(read_object(line.encode("utf-8", "surrogatepass"), f"line {number}", most=most), place)
        for place, (number, line) in enumerate(lines)
    )


def items_digest(items: Sequence[Item]) -> str:
    """SHA-256 of the items' canonical JSON, each with a line feed after it."""
    whole = hashlib.sha256()
    for item in items:
        whole.update(canonical(item.as_json()) + b"\n")
    return whole.hexdigest()


def sampling_json(sampling: Sampling) -> dict[str, Any]:
    """The fields that are not at their default, and max_tokens always."""
    default = Sampling()
    document: dict[str, Any] = {"max_tokens": sampling.max_tokens}
    for name in (*_NUMBERS, "top_k", "seed"):
        if getattr(sampling, name) != getattr(default, name):
            document[name] = getattr(sampling, name)
    return document | ({"stop": list(sampling.stop)} if sampling.stop else {})


def sampling_of_json(given: JsonObject) -> Sampling:
    """Raises BadRecord for a value out of its range (records/sampling.py)."""
    numbers: dict[str, Any] = {name: given.number(name, -100, 100) for name in _NUMBERS if given.has(name)}
    made = Sampling(
        given.integer("max_tokens", 0, 1 << 18), top_k=given.integer("top_k", -1, (1 << 32) - 1, 0),
        seed=given.integer("seed", 0, (1 << 64) - 1, 0), stop=given.texts("stop", MAX_STOPS, MAX_STOP_CHARACTERS),
        **numbers,
    )  # fmt: skip
    if refused := made.refused():
        raise BadRecord(f"{given.where}.{refused[0]} must be {refused[1]}")
    return made
