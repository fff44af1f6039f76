"""What `nfdc` prints, as numbers: Content Store, faces, routes.

Owns: the text format of NFD's command-line tool (24.07). Pure, standard library alone. Must not know: Mini-NDN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ndn_infer.testbed.evidence import NodeCounters

_FACE = re.compile(r"faceid=(\d+)\s+remote=(\S+)\s+local=(\S+)")
_COUNTERS = re.compile(
    r"counters=\{in=\{(\d+)i (\d+)d (\d+)n \d+B\} out=\{(\d+)i (\d+)d (\d+)n \d+B\}\}"
)  # fmt: skip
_ROUTE = re.compile(r"prefix=(\S+)\s+nexthop=(\d+)\s+origin=(\S+)")
_FIELD = re.compile(r"^\s*(\w+)=(\S+)\s*$", re.MULTILINE)


def content_store(text: str) -> tuple[int, int, int]:
    """(entries, hits, misses) of `nfdc cs info`. Raises ValueError for any other text."""
    fields = dict(_FIELD.findall(text))
    try:
        return int(fields["nEntries"]), int(fields["nHits"]), int(fields["nMisses"])
    except KeyError as error:
        raise ValueError(f"this is no 'nfdc cs info': {text.strip()[:200]!r}") from error


def faces(text: str, neighbours: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Counters of the faces of `nfdc face list` whose remote host is in `neighbours` (address -> name).

    Several faces to one neighbour are added up.
    """
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        face, counters = _FACE.search(line), _COUNTERS.search(line)
        if face is None or counters is None:
            continue
        host = face[2].partition("://")[2].rpartition(":")[0]
        if host not in neighbours:
            continue
        in_interests, in_data, _, out_interests, out_data, _ = (int(value) for value in counters.groups())
        values = {
            "in_interests": in_interests, "in_data": in_data, "out_interests": out_interests, "out_data": out_data,
        }  # fmt: skip
        known = found.setdefault(neighbours[host], dict.fromkeys(values, 0))
        for key, value in values.items():
            known[key] += value
    return found


def applications(text: str) -> dict[str, int]:
    """Counters of the faces of `nfdc face list` over NFD's Unix socket, added up: all applications of the node."""
    renamed = [line.replace("remote=fd://", "remote=fd://application:") for line in text.splitlines()]
    return faces("\n".join(renamed), {"application": "all"}).get("all", {})


def node_counters(cs_info: str, face_list: str, neighbours: Mapping[str, str]) -> NodeCounters:
    return NodeCounters(*content_store(cs_info), faces(face_list, neighbours), applications(face_list))


@dataclass(frozen=True, slots=True)
class RibEntry:
    """A route of `nfdc route list`. `origin` says who made it: client or app (an application), nlsr, static."""

    prefix: str
    next_hop: int
    origin: str


def routes(text: str) -> list[RibEntry]:
    """All routes of `nfdc route list`; lines that say something else are passed over."""
    return [RibEntry(prefix, int(hop), origin) for prefix, hop, origin in _ROUTE.findall(text)]


def registered(text: str, net: str) -> list[str]:
    """Prefixes below `net` of `nfdc route list` that applications registered (not routes to neighbours)."""
    below = f"{net}/"
    mine = [entry.prefix for entry in routes(text) if entry.origin in ("app", "client")]
    return sorted({prefix for prefix in mine if prefix.startswith(below)})
