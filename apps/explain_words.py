"""The tree of an answer in words.

Owns: how it is printed. Must not know: how anything was judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ndn_infer.apps.summary import shorten
from ndn_infer.evidence.judge import State
from ndn_infer.evidence.node import EvidenceNode, Explanation

_MARKS: Final = {
    State.VERIFIED: "ok",
    State.UNPROVEN: "unproven",
    State.MISSING: "not to be had",
    State.BROKEN: "BROKEN",
}
_SHOWN: Final = 3
"""Of nodes that are alike (blocks): so many, then a count, unless all are wanted."""


def lines_of(explanation: Explanation, *, every: bool = False) -> Iterator[str]:
    """For people. `every`: each block, and whole names."""
    answer = explanation.answer
    text = answer.facts.get("text")
    if isinstance(text, str) and text:
        yield _quoted(text)
        yield ""
    yield from _node(answer, "", every)
    yield ""
    yield _verdict(explanation)
    yield from (f"  {note}" for note in explanation.notes)


def _verdict(explanation: Explanation) -> str:
    counts, fault = explanation.counts, explanation.fault
    said = ", ".join(f"{counts[state]} {_MARKS[state].lower()}" for state in State if counts[state])
    if fault is None:
        return f"every link is verified: {said}"
    what = (
        "the first broken link is"
        if fault.state is State.BROKEN
        else "nothing is broken; what is not verified begins at"
    )
    return f"{said}; {what} the {fault.kind} {shorten(fault.name)}: {_short(fault.why)}"


def _node(node: EvidenceNode, indent: str, every: bool) -> Iterator[str]:
    arrow = "" if node.kind in ("answer", "result") else "<- "
    signer = f", signed by {node.signer}" if node.signer else ""
    words = f": {node.words}" if node.words else ""
    yield f"{indent}{arrow}{node.kind}{words}{signer} [{_MARKS[node.state]}]"
    inner = indent + "   "
    if node.why and node.state is not State.VERIFIED:
        yield f"{inner}{node.why if every else _short(node.why)}"
    if node.name:
        yield f"{inner}{node.name if every else shorten(node.name)}"
    yield from _parts(node.parts, inner, every)


def _parts(parts: list[EvidenceNode], indent: str, every: bool) -> Iterator[str]:
    """Blocks that are alike are told together, unless one of them is not."""
    at = 0
    while at < len(parts):
        group = [parts[at]]
        while at + len(group) < len(parts) and _alike(parts[at], parts[at + len(group)]):
            group.append(parts[at + len(group)])
        at += len(group)
        if every or len(group) <= _SHOWN:
            for node in group:
                yield from _node(node, indent, every)
            continue
        first = group[0]
        signer = f", signed by {first.signer}" if first.signer else ""
        source = f", {first.facts['source']}" if first.facts.get("source") else ""
        yield f"{indent}<- {len(group)} x {first.kind}{source}{signer} [{_MARKS[first.state]}]"
        if first.why and first.state is not State.VERIFIED:
            yield f"{indent}   {first.why}"
        yield f"{indent}   {shorten(first.name)} ..."


def _alike(one: EvidenceNode, other: EvidenceNode) -> bool:
    blocks = {"token block", "KV block"}
    same = (one.kind, one.state, one.signer) == (other.kind, other.state, other.signer)
    return same and one.kind in blocks and one.facts.get("source") == other.facts.get("source")


def _short(words: str) -> str:
    """Words with the names in them shortened."""
    return " ".join(shorten(word) if word.startswith("/") else word for word in words.split(" "))


def _quoted(text: str) -> str:
    short = text if len(text) <= 400 else text[:397] + "..."
    return "\n".join(f"  | {line}" for line in short.splitlines())
