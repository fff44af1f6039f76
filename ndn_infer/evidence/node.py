"""The tree of what an answer rests on: nodes with what was found of each, as facts and as words.

Owns: the tree's form, as JSON and for people; which of its links is the first that is broken. Must not know: how
anything is judged, what any kind of node means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.evidence.judge import Finding, State
from ndn_infer.evidence.plain_json import Json

_ORDER: Final = (State.BROKEN, State.MISSING, State.UNPROVEN)


@dataclass(slots=True, eq=False)
class EvidenceNode:
    """One link. `kind`: answer, answer record, result, result record, request, prompt, token block, tokenization,
    context, passage, corpus, citations, KV block, model, key, deny list. `name`: its URI. `words` say what it is, `why`
    what is wrong with it, `signer` whose signature it has (an identity's URI); `facts` are for machines. `parts` is
    what it rests on."""

    kind: str
    name: str
    state: State
    words: str = ""
    why: str = ""
    signer: str = ""
    facts: dict[str, Json] = field(default_factory=dict)
    parts: list[EvidenceNode] = field(default_factory=list)

    def take(self, finding: Finding) -> None:
        """What was found of it, unless something worse is known."""
        if self.state is State.VERIFIED or (finding.state is State.BROKEN and self.state is not State.BROKEN):
            self.state, self.why = finding.state, finding.why

    def broken(self, why: str) -> None:
        self.take(Finding(State.BROKEN, why))

    def walk(self) -> Iterator[EvidenceNode]:
        """This node and all below it, each before its parts."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def plain(self) -> dict[str, Json]:
        """As JSON: the fields by their names; `why`, `signer` and `parts` where there are any."""
        found: dict[str, Json] = {
            "kind": self.kind, "name": self.name, "state": self.state.value, "words": self.words, **self.facts,
        }  # fmt: skip
        found |= {name: value for name, value in (("why", self.why), ("signer", self.signer)) if value}
        if self.parts:
            found["parts"] = [part.plain() for part in self.parts]
        return found


@dataclass(frozen=True, slots=True)
class Explanation:
    """`answer` is the root. `judged_at`: the time (Unix epoch seconds) at which certificates were to be valid; `notes`
    are for people: what was found of the bundle itself, and what has changed since."""

    answer: EvidenceNode
    judged_at: float
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[State, int]:
        nodes = list(self.answer.walk())
        return {state: sum(node.state is state for node in nodes) for state in State}

    @property
    def fault(self) -> EvidenceNode | None:
        """The first broken link: where none is, the first that is missing; None where all are verified."""
        nodes = list(self.answer.walk())
        for state in _ORDER:
            for node in nodes:
                if node.state is state:
                    return node
        return None

    @property
    def state(self) -> State:
        """Of the whole: that of its first fault."""
        fault = self.fault
        return State.VERIFIED if fault is None else fault.state

    def plain(self) -> dict[str, Json]:
        fault = self.fault
        return {
            "state": self.state.value,
            "counts": {state.value: count for state, count in self.counts.items()},
            "first_fault": None if fault is None else {"kind": fault.kind, "name": fault.name, "why": fault.why},
            "judged_at": self.judged_at,
            "notes": list(self.notes),
            "answer": self.answer.plain(),
        }
