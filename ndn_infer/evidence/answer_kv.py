"""KV blocks that an answer rests on, as resources: one for each source, signer and prefix of names.

Owns: that form. Must not know: how blocks are found, what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.statement import Resource

LOCAL, PEER, CONTENT_STORE, PREFILLED = "local", "peer", "content-store", "prefilled"
SOURCES: Final = (LOCAL, PEER, CONTENT_STORE, PREFILLED)
MAX_BLOCKS: Final = 8192


@dataclass(frozen=True, slots=True)
class KvInput:
    """Block `index` of the prompt: `uri` without version, the `version` that was used (0: not known; it was at hand),
    where it came from and who signed it ("": it was computed by this process before)."""

    index: int
    uri: str
    version: int
    source: str
    signer: str = ""


def grouped(blocks: Iterable[KvInput]) -> list[Resource]:
    """Groups in the order of their first blocks."""
    groups: dict[tuple[str, str, str, str], list[list[str | int]]] = {}
    for block in blocks:
        prefix, chain, layers = _split(block.uri)
        groups.setdefault((prefix, layers, block.source, block.signer), []).append([block.index, chain, block.version])
    return [
        Resource(prefix, name="kv", annotations={"layers": layers, "source": source, "signer": signer, "blocks": rows})
        for (prefix, layers, source, signer), rows in groups.items()
    ]


def ungrouped(resources: Sequence[Resource]) -> tuple[KvInput, ...]:
    """Raises BadRecord."""
    found: dict[int, KvInput] = {}
    for one in resources:
        if set(one.annotations) != {"layers", "source", "signer", "blocks"}:
            raise BadRecord("KV blocks have layers, source, signer and blocks")
        layers, source, signer = (one.annotations[name] for name in ("layers", "source", "signer"))
        rows = one.annotations["blocks"]
        if source not in SOURCES or not isinstance(rows, list) or len(rows) + len(found) > MAX_BLOCKS:
            raise BadRecord(f"KV blocks come from {', '.join(SOURCES)}, {MAX_BLOCKS} at most")
        for row in rows:
            if type(row) is not list or [type(part) for part in row] != [int, str, int]:
                raise BadRecord("a KV block is its place in the prompt, its chain value and its version")
            found[row[0]] = KvInput(row[0], f"{one.uri}/{row[1]}/{layers}", row[2], str(source), str(signer))
    return tuple(found[index] for index in sorted(found))


def _split(uri: str) -> tuple[str, str, str]:
    prefix, chain, layers = uri.rsplit("/", 2)
    return prefix, chain, layers
