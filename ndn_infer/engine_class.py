"""The engine class: what decides, beside the model and the request, which tokens an answer has.

Owns: its fields, its text in requests, status records and names, and which part of it the KV of prompts follows. Must
not know: torch, how anything is computed. The engine says which class it is (engine/instructions.py, llama.py).

Two producers of one class give one request the same tokens. A request names its class, so that a name never has two
honest answers; a producer of another class refuses it. The text has all fields, in this order, separated by dots:

    bf16.int4-r16.llama-torch-3.grouped.avx512.raw
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final, Self

from ndn_infer.errors import BadRecord

WRONG_ENGINE: Final = "wrong-engine"
"""Code of an answer: the request names another engine class than this producer's."""

LLAMA: Final = "llama-torch-3"
"""The engine's own forward pass. Changed whenever the same tokens would give other KV bytes on the same machine."""

_QUANTISED: Final = ("int8", "int4")
_SPLIT: Final = "-r16"

MOST_CHARACTERS: Final = 112
"""With the form of a codec before it, it is a label of a record (128)."""

_FIELD: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")


@dataclass(frozen=True, slots=True)
class EngineClass:
    """`dtype`: of activations and KV (bf16, fp32). `weights`: what decoding reads (bf16, fp32, int8, int4), with -r16
    where the head takes rows of 16 bits (engine/split_rows.py): on machines whose sums of bytes are exact.
    `implementation`: the forward pass and its version. `attention`: grouped or single. `machine`: instructions or
    device, as far as the order of additions follows them. `kv`: the form in which KV of others arrives (raw, int8);
    with another one than raw an answer depends on which KV was fetched."""

    dtype: str
    weights: str
    implementation: str
    attention: str
    machine: str
    kv: str = "raw"

    def __post_init__(self) -> None:
        """Raises BadRecord for a field that cannot stand in the text."""
        for item in fields(self):
            if not _FIELD.fullmatch(getattr(self, item.name)):
                raise BadRecord(f"{item.name} of an engine class is letters, digits, - and _, at most 48 of them")
        if len(str(self)) > MOST_CHARACTERS:
            raise BadRecord(f"an engine class has {MOST_CHARACTERS} characters at most")

    def __str__(self) -> str:
        return f"{self.dtype}.{self.weights}.{self.implementation}.{self.attention}.{self.machine}.{self.kv}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadRecord."""
        parts = text.split(".")
        if len(parts) != len(fields(cls)):
            names = ", ".join(item.name for item in fields(cls))
            raise BadRecord(f"an engine class is {names}, separated by dots, not {text[:200]!r}")
        return cls(*parts)

    @property
    def prompts(self) -> str:
        """The part that the KV of prompts follows, in the names of KV blocks. Prompts are computed with the model's own
        weights, rounded only where fp32 is computed with bf16 weights: so classes that differ in other weights, or in
        the form of KV, share blocks."""
        weights = "bf16" if self.weights == "bf16" else self.dtype
        return ".".join((self.dtype, weights, self.implementation, self.attention, self.machine))

    @property
    def decodes_as_prompts(self) -> bool:
        """Whether decoding reads the weights that prompts are computed with, so that KV of its tokens may stand under
        the same names."""
        return self.precision not in _QUANTISED

    @property
    def precision(self) -> str:
        """That of the weights alone, as the option says it."""
        return self.weights.removesuffix(_SPLIT)


def weights_label(precision: str, *, split: bool) -> str:
    """`weights` of a class. `split`: a quantised head takes rows of 16 bits, in two halves."""
    return precision + _SPLIT if split and precision in _QUANTISED else precision


def label_of(text: str) -> str:
    """`text` as a field of a class: a version number or the name of a device has dots and spaces."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:48]
