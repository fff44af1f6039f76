"""The topology file: Mini-NDN's format, read strictly.

Owns: which sections, node parameters, link options and function names there are, and a refusal with file, line and the
nearest right word for everything else. Must not know: paths, routes, namespaces. Standard library alone, apart from
errors.py: the Mini-NDN script, which runs under another interpreter, reads its file with it too.

    [nodes]
    core: functions=tokenize,decode        `name: key=value ...`; `_` stands for "nothing to say"
    [links]
    edge:core delay=10ms bw=100            delay and jitter in us, ms or s; bw in Mbit/s; loss in percent

Names are read in lower case, as Mini-NDN's own reader does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from ndn_infer.testbed.topology import MAX_LINKS, LinkSpec, NodeSpec, Topology, TopologyError, shortest_paths

FOLDER: Final = Path(__file__).resolve().parent / "topologies"
SUFFIX: Final = ".conf"
MAX_FILE_BYTES: Final = 1 << 20

FUNCTIONS: Final = ("tokenize", "embed", "prefill", "decode")
"""What `functions=` may hold: producers that need nothing but a prepared model; and `stage:0-9` or `decode:20-29`, some
of its layers."""

OURS: Final = ("functions", "cores")
MINI_NDN_ONLY: Final = ("radius", "angle", "network", "router", "nfd-log-level", "nlsr-log-level")
"""Node parameters that Mini-NDN's NFD and NLSR read. Here they are checked for their spelling and change nothing."""

LINK_OPTIONS: Final = ("delay", "jitter", "bw", "loss", "max_queue_size", "cost")
MININET_ONLY: Final = frozenset({
    "speedup", "use_hfsc", "use_tbf", "latency_ms", "enable_ecn", "enable_red", "txo", "rxo", "r2q",
    "intfname1", "intfname2", "addr1", "addr2", "params1", "params2", "port1", "port2", "fast",
})  # fmt: skip
"""Further options of Mininet's links. No runner of ours applies them."""

SECTIONS: Final = ("nodes", "links")
_RADIO: Final = "this is Mini-NDN-WiFi's; there are no radio links here"
EMPTY_SECTIONS: Final = {
    "switches": "nodes are linked directly, there are no switches",
    "faces": "every link has its two faces, there are no others",
    **dict.fromkeys(("stations", "accessPoints", "cars", "adhocNetwork", "mobility", "wmediumd"), _RADIO),
}
"""Mini-NDN's other sections, and why an entry in one is refused. Empty they say nothing and are accepted."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_CORES: Final = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?){0,63}", re.ASCII)
_LAYERS: Final = re.compile(r"(stage|decode):[0-9]{1,5}-[0-9]{1,5}")
_DELAY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s)")
_MICROSECONDS: Final = {"us": 1, "ms": 1_000, "s": 1_000_000}
MAX_DELAY_US: Final = 60_000_000
MAX_MBIT: Final = 100_000
MAX_QUEUE: Final = 1_000_000
MAX_COST: Final = 1_000_000_000


# ---------------------------------------------------------------- files


def available() -> dict[str, Path]:
    """The topologies that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def load(name: str) -> Topology:
    """A topology by the name of a packaged one, or by path. Raises TopologyError."""
    path = available().get(name, Path(name))
    try:
        if not path.is_file():
            raise TopologyError(f"no topology {name[:200]!r}", hint=f"known: {', '.join(available())}; or give a file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TopologyError(f"{path} is too large for a topology")
        text = path.read_text("utf-8")
    except OSError as error:
        raise TopologyError(f"cannot read {str(path)[:200]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TopologyError(f"cannot read {path}: {error}") from error
    return parse(text, str(path), name=path.stem)


def parse(text: str, source: str = "topology", *, name: str = "") -> Topology:
    """Raises TopologyError, naming `source` and the line."""
    nodes: dict[str, NodeSpec] = {}
    links: dict[frozenset[str], LinkSpec] = {}
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        where = f"{source}:{number}"
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = _section(line, where)
        elif section == "nodes":
            node = _parse_node(line, where)
            if node.name in nodes:
                raise TopologyError(f"{where}: node {node.name!r} is there twice")
            nodes[node.name] = node
        elif section == "links":
            link = _parse_link(line, where, nodes, links)
            links[frozenset((link.first, link.second))] = link
            if len(links) > MAX_LINKS:
                raise TopologyError(f"{where}: more links than addresses")
        elif section:
            first = line.split()[0]
            raise TopologyError(f"{where}: [{section}] must be empty, not {first!r}: {EMPTY_SECTIONS[section]}")
        else:
            raise TopologyError(f"{where}: {line!r} stands before [nodes]")
    topology = Topology(name or source, tuple(nodes.values()), tuple(links.values()))
    _check_connected(topology, source)
    return topology


def _section(line: str, where: str) -> str:
    name = line[1:-1] if line.endswith("]") else ""
    known = (*SECTIONS, *EMPTY_SECTIONS)
    if name not in known:
        raise TopologyError(f"{where}: sections are [nodes] and [links], not {line}{nearest(name or line, known)}")
    return name


def _check_connected(topology: Topology, source: str) -> None:
    if len(topology.nodes) < 2:
        raise TopologyError(f"{source}: a topology has two nodes at least")
    reached = {topology.nodes[0].name, *shortest_paths(topology, topology.nodes[0].name)}
    lost = [node.name for node in topology.nodes if node.name not in reached]
    if lost:
        raise TopologyError(f"{source}: no path from {topology.nodes[0].name} to {', '.join(lost)}")


# ---------------------------------------------------------------- lines


def _parse_node(line: str, where: str) -> NodeSpec:
    head, *rest = line.split()
    name = head.removesuffix(":").lower()
    if not _NAME.fullmatch(name):
        raise TopologyError(
            f"{where}: a node's name is up to 32 letters, digits, '.', '_', '-', beginning with one of the first two, "
            f"not {name!r}"
        )
    parameters = _pairs(rest, where)
    for key in parameters:
        if key not in OURS and key not in MINI_NDN_ONLY:
            raise _unknown(where, "node parameter", key, (*OURS, *MINI_NDN_ONLY))
    node = NodeSpec(name, parameters)
    for function in node.functions:
        if function not in FUNCTIONS and not _LAYERS.fullmatch(function):
            raise _unknown(where, "function", function, FUNCTIONS)
    if "cores" in parameters and not _CORES.fullmatch(node.cores):
        raise TopologyError(f"{where}: cores= is written as in 0-1,3, not {node.cores!r}")
    return node


def _parse_link(
    line: str, where: str, nodes: Mapping[str, NodeSpec], links: Collection[frozenset[str]]
) -> LinkSpec:  # fmt: skip
    head, *rest = line.split()
    ends = head.lower().split(":")
    if len(ends) != 2:
        raise TopologyError(f"{where}: a link is written first:second, not {head!r}")
    for end in ends:
        if end not in nodes:
            raise TopologyError(f"{where}: no node {end!r} in [nodes]{nearest(end, nodes)}")
    first, second = ends
    if first == second:
        raise TopologyError(f"{where}: {first} is linked to itself")
    if frozenset(ends) in links:
        raise TopologyError(f"{where}: {first} and {second} are linked already")
    return _link(first, second, _pairs(rest, where), where)


def _link(first: str, second: str, given: Mapping[str, str], where: str) -> LinkSpec:
    for key in given:
        if key in MININET_ONLY:
            raise TopologyError(f"{where}: {key} is an option of Mininet's own links and would change nothing here")
        if key not in LINK_OPTIONS:
            raise _unknown(where, "link option", key, LINK_OPTIONS)
    delay_us = _delay(given, "delay", where)
    jitter_us = _delay(given, "jitter", where)
    if jitter_us > delay_us:
        raise TopologyError(f"{where}: jitter is at most the delay, not {given['jitter']}")
    return LinkSpec(
        first,
        second,
        delay_us=delay_us,
        jitter_us=jitter_us,
        bandwidth_mbit=_number(given, "bw", where, MAX_MBIT),
        loss_percent=_number(given, "loss", where, 100),
        queue_packets=_whole(given, "max_queue_size", where, MAX_QUEUE),
        cost=_whole(given, "cost", where, MAX_COST) or max(1, round(delay_us / 1000)),
    )


def _pairs(words: list[str], where: str) -> dict[str, str]:
    """key=value words; `_` is Mini-NDN's way to say that there are none."""
    found: dict[str, str] = {}
    for word in words:
        if word == "_":
            continue
        key, separator, value = word.partition("=")
        if not separator or not key or not value:
            raise TopologyError(f"{where}: expected key=value, not {word!r}")
        if key in found:
            raise TopologyError(f"{where}: {key} is there twice")
        found[key] = value
    return found


# ---------------------------------------------------------------- values


def _delay(given: Mapping[str, str], key: str, where: str) -> int:
    """Microseconds; 0 when nothing is given."""
    text = given.get(key, "0ms")
    match = _DELAY.fullmatch(text)
    if not match:
        raise TopologyError(f"{where}: {key} is a number with us, ms or s, not {text!r}")
    found = round(float(match[1]) * _MICROSECONDS[match[2]])
    if found > MAX_DELAY_US:
        raise TopologyError(f"{where}: {key} is at most {MAX_DELAY_US // 1_000_000} s, not {text}")
    return found


def _number(given: Mapping[str, str], key: str, where: str, limit: float) -> float:
    try:
        value = float(given.get(key, "0"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= limit:
        raise TopologyError(f"{where}: {key} is a number between 0 and {limit:g}, not {given[key]!r}")
    return value


def _whole(given: Mapping[str, str], key: str, where: str, limit: int) -> int:
    """A whole number from 1 to `limit`; 0 when nothing is given."""
    if key not in given:
        return 0
    text = given[key]
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 1 <= int(text) <= limit):
        raise TopologyError(f"{where}: {key} is a whole number between 1 and {limit:,}, not {text!r}")
    return int(text)


def _unknown(where: str, what: str, word: str, known: Collection[str]) -> TopologyError:
    return TopologyError(f"{where}: unknown {what} {word!r}{nearest(word, known)}", hint=f"known: {', '.join(known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that names the known word closest to `word`, or "" when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
