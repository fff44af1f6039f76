"""Steps: how a sequence is cut for stages, how a step is named, and how it is asked for.

Owns: chain values of steps, the records of the call. Must not know: who computes or holds anything.

A step is a piece of a prompt, or one token after it. Its chain value (chain.py, over steps instead of blocks) commits
to all tokens up to its end, to how they were cut, and to what else the last bits depend on. It names the step's
activations at every layer, and each stage finds its KV by the value of the step before. Tokens after a prompt that are
known already, those of an answer that goes on, are joined to runs: one request and one forward for many of them, with
the numbers and the chain value of one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from ndn_infer import chain
from ndn_infer.engine.attention import LEAST_ROWS, kv_class
from ndn_infer.engine.stage import piece_end
from ndn_infer.errors import BadRecord
from ndn_infer.records import MAX_INLINE, Reply, Request
from ndn_infer.records.bounds import AtMost, Digest, Ids, Label, Size, TokenCount, Uri
from ndn_infer.records.receipt import MAX_STAGES, StageSpent

NO_KV: Final = "no-kv"
"""The code of a stage that has not got the KV of the steps before: ask again with all tokens."""

SERVICE: Final = ("service", "stage")
_DECODED: Final = 0xFFFFFFFF
"""Marks a step after the prompt in its chain value."""
_RUN: Final = 0xFFFFFFFE
"""Marks names of activations of several steps after the prompt."""


def function_before(layer: int, model: str) -> str:
    """The function that gives what `layer` takes. Networks route by it, so no stage needs to know who the others are;
    the whole digest is in the request."""
    return f"before-{layer}.{model[:32]}"


@dataclass(frozen=True, slots=True)
class StageRequest(Request):
    """What the layers up to a stage's last one give for tokens `ids`, which stand from `start` on: a piece of a prompt
    of `prompt` tokens, or tokens after it. `parent` is the chain value (hex) of the steps before. `before` has all
    tokens before `start`, for a stage that must compute them first; a prompt is cut every `chunk_tokens`, which is also
    the most that a run has. `engine` is the class that computes it (engine_class.py). `again` is any number not used
    before when an activation that caches know of is nowhere to be had."""

    model: Label
    engine: Label
    start: TokenCount
    prompt: TokenCount
    ids: Ids
    parent: Digest
    chunk_tokens: TokenCount
    before: Ids = ()
    again: Size = 0


@dataclass(frozen=True, slots=True)
class StageReport(Reply):
    """Answer to a StageRequest: `chain` names the activation, `holder` (URI) is who published it. A small one is here
    as well, in its wire form (tensors.py). `spent`: what it took, at this stage and at those before; nothing where it
    was there already. A report out of a cache says what it took then."""

    chain: Digest
    holder: Uri
    tensor: Annotated[bytes, AtMost(MAX_INLINE)] = b""
    spent: Annotated[tuple[StageSpent, ...], AtMost(MAX_STAGES)] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens `ids` from `start` on, of a sequence whose first `prompt` tokens are its prompt; several of them after it
    are a run."""

    ids: tuple[int, ...]
    start: int
    prompt: int
    parent: bytes
    value: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.ids)

    @property
    def name(self) -> bytes:
        """Its activations have this name: its value, but for a run, which has another row for each token."""
        run = self.start >= self.prompt and len(self.ids) > 1
        return chain.extend(self.value, (_RUN, len(self.ids))) if run else self.value


class Cutter:
    """Cuts sequences into steps. Who computes in `dtype` with prompts cut every `chunk_tokens` gets these values."""

    def __init__(self, dtype: str, chunk_tokens: int) -> None:
        self._exact = dtype != "fp32"  # there the last bits do not follow the prompt's length
        self.chunk_tokens = max(chunk_tokens, LEAST_ROWS)
        self.seed = chain.seed(self.chunk_tokens)

    def step(self, ids: Sequence[int], start: int, prompt: int, parent: bytes) -> Step:
        if start >= prompt:
            return Step(tuple(ids), start, prompt, parent, self._decoded(parent, ids))
        mark = kv_class(start + len(ids), prompt) if self._exact else 0
        return Step(tuple(ids), start, prompt, parent, chain.extend(parent, (mark, *ids)))

    def steps(self, tokens: Sequence[int], prompt: int) -> list[Step]:
        """All steps of `tokens`, which begin with a prompt of `prompt` tokens, or with some whole pieces of it."""
        found: list[Step] = []
        start, parent = 0, self.seed
        while start < len(tokens) and (end := self.end(start, prompt)) <= len(tokens):
            found.append(self.step(tokens[start:end], start, prompt, parent))
            start, parent = end, found[-1].value
        return found

    def joined(self, steps: Sequence[Step]) -> list[Step]:
        """The same tokens in fewer steps: those after the prompt in runs."""
        found = [step for step in steps if step.start < step.prompt]
        decoded = steps[len(found) :]
        for first in range(0, len(decoded), self.chunk_tokens):
            some = decoded[first : first + self.chunk_tokens]
            ids = tuple(token for step in some for token in step.ids)
            found.append(replace(some[0], ids=ids, value=some[-1].value))
        return found

    def apart(self, run: Step) -> list[Step]:
        """The steps that a run stands for."""
        found: list[Step] = []
        for number, token in enumerate(run.ids, run.start):
            found.append(self.step((token,), number, run.prompt, found[-1].value if found else run.parent))
        return found

    def end(self, start: int, prompt: int) -> int:
        """Where the step ends that begins at `start`; `start` where none begins."""
        return start + 1 if start >= prompt else piece_end(start, prompt, self.chunk_tokens, LEAST_ROWS)

    def check(self, request: StageRequest, context_tokens: int, vocabulary: int) -> Step:
        """The step that a request means, of a model with such limits. Nothing of the request was fetched, allocated or
        looped over before its numbers were compared with them. Raises BadRecord."""
        start, end = request.start, request.start + len(request.ids)
        if not 0 < request.prompt <= context_tokens or end > context_tokens:
            raise BadRecord(f"tokens {start} to {end}, a prompt of {request.prompt}; a context is {context_tokens}")
        decoded = start >= request.prompt
        if not request.ids or (end > start + self.chunk_tokens if decoded else end != self.end(start, request.prompt)):
            raise BadRecord(
                f"{len(request.ids)} tokens from {start} on: steps are pieces of a prompt, or runs after it"
            )
        if request.before and len(request.before) != start:
            raise BadRecord(f"{len(request.before)} tokens do not come before a step that begins at {start}")
        if max(max(request.ids), max(request.before, default=0)) >= vocabulary:
            raise BadRecord("a step has token ids outside the vocabulary")
        parent = bytes.fromhex(request.parent)
        if (start == 0) != (parent == self.seed):
            raise BadRecord("a sequence begins with the seed of its chain, and only there")
        return self.step(request.ids, start, request.prompt, parent)

    @staticmethod
    def _decoded(parent: bytes, ids: Sequence[int]) -> bytes:
        """The chain value of tokens after a prompt: of one step for each."""
        for token in ids:
            parent = chain.extend(parent, (_DECODED, token))
        return parent
