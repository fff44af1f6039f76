"""Imports point down only: the table below is the architecture, and this test enforces it.

Lazy imports and imports under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ndn_infer"

GROUND = {"errors", "addresses", "clock", "ndn", "config", "namespace", "records", "tensors", "chain", "engine_class"}
GROUND |= {"records.grammar", "records.sampling", "files", "hermes", "metrics", "web_pages", "telemetry", "together"}
OBJECTS = GROUND | {"wire", "security", "storage", "transport.link", "transport.objects"}
TRANSPORT = OBJECTS | {"transport.calls", "transport.trust", "repo"}
OFFERS = {"offers", "offers.live"}
EVIDENCE = {"evidence", "evidence.live"}
PROMPT_LOG = {"prompt_log", "prompt_log.live"}
SYNC = {"sync", "sync.core"}
FORWARDER = {"forwarder.link", "forwarder.core", "forwarder.management", "forwarder.shell"}
USED = {"guard", "console", "node", "local", "catalog", "client", "library", "functions", "gateway"}
"""What commands and measurements are made of: they import none of each other."""

# unit or room -> what it may import (itself always)
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "addresses": {"errors"},
    "clock": set(),
    "together": set(),
    "files": {"errors"},
    "web_pages": {"addresses"},
    "telemetry": {"clock"},
    "metrics": {"errors", "addresses", "web_pages"},
    "chain": set(),
    "engine_class": {"errors"},
    "hermes": set(),
    "ndn": {"errors"},
    "config": {"errors", "addresses", "ndn", "records.sampling"},
    "tensors": {"errors"},
    "torch_tensors": {"errors", "tensors"},
    "records": {"errors", "records.grammar", "records.sampling"},
    "records.grammar": {"errors", "records"},
    "records.sampling": {"errors", "records", "records.grammar"},
    "namespace": {"errors", "ndn"},
    "wire": {"errors", "ndn"},
    "security": {"errors", "files", "clock", "config", "ndn", "namespace", "chain", "records", "wire"},
    "forwarder.link": {"errors", "addresses", "ndn", "wire"},
    "forwarder.core": {"errors", "addresses", "ndn", "wire", "forwarder.link"},
    "forwarder.management": {"errors", "addresses", "ndn", "wire", "forwarder.link", "forwarder.core"},
    "forwarder.shell": {"errors", "files", "addresses", "clock", "config", "ndn", "wire", "metrics", "web_pages"}
    | FORWARDER,
    "storage": {"errors", "files", "clock", "config", "ndn", "wire"},
    "transport.link": {"errors", "addresses", "clock", "ndn", "wire"},
    "transport.objects": OBJECTS,
    "transport.calls": OBJECTS,
    "transport.trust": OBJECTS | {"transport.calls"},
    "repo": OBJECTS | {"transport.calls"},
    "offers": GROUND,
    "offers.live": OBJECTS | {"transport.calls", "offers", "sync"},
    "kv.layout": {"errors"},
    "engine": {
        "errors",
        "records.grammar",
        "records.sampling",
        "config",
        "chain",
        "engine_class",
        "hermes",
        "kv.layout",
        "metrics",
    },
    "models": {"errors", "files"},
    "corpus": {"errors", "files"},
    "catalog": GROUND | {"wire", "security"},
    "console": {"errors", "config"},
    "evidence": GROUND | {"wire", "security"},
    "prompt_log": GROUND | {"wire", "security"},
    "prompt_log.live": TRANSPORT | {"node", "prompt_log"},
    "evidence.live": TRANSPORT | OFFERS | {"node", "client", "evidence"},
    "sync.core": {"errors", "ndn"},
    "sync": OBJECTS | {"sync.core"},
    "node": TRANSPORT | {"evidence"},
    "local": GROUND | {"security", "catalog", "engine", "models", "console", "node", "functions"},
    "guard": GROUND | {"evidence"},
    "client": TRANSPORT | {"node", "evidence", "guard"} | OFFERS,
    "library": TRANSPORT | {"guard", "catalog", "node", "client", "local", "functions", "corpus"} | EVIDENCE,
    "gateway": TRANSPORT | {"client", "guard"} | OFFERS | EVIDENCE | PROMPT_LOG,
    "kv": OBJECTS | {"transport.calls", "kv.layout", "torch_tensors"},
    "vllm": TRANSPORT | {"node", "kv", "models"},
    "vllm.backend": GROUND | {"engine", "vllm"},
    "functions": TRANSPORT
    | OFFERS
    | {"guard", "engine", "models", "corpus", "kv", "kv.layout", "node", "torch_tensors", "evidence", "vllm.backend"}
    | PROMPT_LOG,
    # Mini-NDN's classes are only there on machines that have Mini-NDN.
    "testbed": TRANSPORT
    | FORWARDER
    | SYNC
    | {"engine", "models", "corpus", "kv", "kv.layout", "vllm", "vllm.backend"}
    | OFFERS
    | EVIDENCE
    | PROMPT_LOG
    | USED,
    "apps": TRANSPORT | FORWARDER | SYNC | {"engine", "models", "corpus"} | OFFERS | EVIDENCE | PROMPT_LOG | USED,
    "__init__": {"errors", "library"},
    "cli": {"errors", "config", "console", "node", "apps", "testbed"},
    "__main__": {"cli"},
}

# third-party packages that only these units may touch
ONLY: dict[str, set[str]] = {
    "torch": {"engine", "functions", "kv", "models", "testbed", "torch_tensors", "vllm"},  # in kv: a block is a tensor
    "vllm": {"vllm"},
    "transformers": {"engine", "models", "testbed"},
    "msgpack": {"records"},
    "ndn": {"security", "testbed"},
    "aiohttp": {"forwarder", "gateway", "metrics", "telemetry", "testbed"},
    "prometheus_client": {"metrics", "vllm"},
    "asyncio": {
        "together",
        "prompt_log",
        "transport",
        "telemetry",
        "repo",
        "sync",
        "security",
        "forwarder",
        "kv",
        "evidence",
        "offers",
        "client",
        "functions",
        "vllm",
        "gateway",
        "console",
        "local",
        "library",
        "apps",
        "testbed",
    },
}

# pure cores: no socket, no clock, no event loop
PURE = sorted(
    path
    for room in (
        "ndn",
        "wire",
        "offers",
        "evidence",
        "prompt_log",
        "guard",
        "sync/core",
        "forwarder/link",
        "forwarder/core",
        "forwarder/management",
    )
    for path in (PACKAGE / room).glob("*.py")
)
IMPURE_MODULES = {"asyncio", "socket", "time", "selectors", "threading", "subprocess"}

# floors that run in virtual time: they ask ndn_infer/clock.py, and not the machine
ONE_CLOCK = sorted(
    path
    for room in (
        "security",
        "transport",
        "offers",
        "functions",
        "kv",
        "vllm",
        "client",
        "node",
        "repo",
        "evidence",
        "prompt_log",
        "forwarder/shell",
    )
    for path in (PACKAGE / room).rglob("*.py")
)
CLOCKS = {"monotonic", "monotonic_ns", "time", "time_ns", "sleep"}
OWN_CLOCK = {"forwarder/shell/daemon.py"}
"""A process of its own, which never runs in virtual time."""


def sources() -> list[Path]:
    """Every module, apps/ and testbed/ through their links (rglob does not follow those)."""
    linked = [path for link in ("apps", "testbed") for path in (PACKAGE / link).resolve().rglob("*.py")]
    return sorted([*PACKAGE.rglob("*.py"), *(PACKAGE / path.relative_to(ROOT) for path in linked)])


def unit_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return unit_of_module(relative.with_suffix("").parts)


def unit_of_module(parts: tuple[str, ...]) -> str:
    """The unit or room of a module: its longest prefix in the table."""
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in ALLOWED:
            return ".".join(parts[:length])
    return ".".join(parts)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "ndn_infer"}
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    unit = unit_of(path)
    if path.name == "__init__.py" and not imports(path):
        return
    assert unit in ALLOWED, f"{unit} has no place in the house yet"
    for module in imports(path):
        parts = tuple(module.split("."))
        if parts[0] == "ndn_infer" and len(parts) > 1 and parts[1] != "__version__":
            other = unit_of_module(parts[1:])
            assert other == unit or other in ALLOWED[unit], f"{unit} must not import {module}"
        elif parts[0] in ONLY:
            assert unit.split(".")[0] in ONLY[parts[0]], f"{unit} must not touch {parts[0]}"


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_cores_touch_no_clock_and_no_socket(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & IMPURE_MODULES
    assert "ndn_infer.clock" not in imports(path)


@pytest.mark.parametrize("path", ONE_CLOCK, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_there_is_one_clock(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in OWN_CLOCK:
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            assert node.attr not in CLOCKS, f"line {node.lineno}: ask ndn_infer/clock.py for the time"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            assert not {alias.name for alias in node.names} & CLOCKS


def test_no_import_cycles() -> None:
    """Between modules, lazy imports counted."""
    graph = {}
    names = {".".join(("ndn_infer", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in sources()}
    for name, path in names.items():
        graph[name] = {module for module in imports(path) if module in names and module != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_modules_stay_readable() -> None:
    """One concept a file: nothing beyond 450 lines."""
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in sources()}
    long = {path: count for path, count in lines.items() if count > 450}
    assert not long


def type_names() -> dict[str, set[str]]:
    """Units by the top-level classes that they define."""
    found: dict[str, set[str]] = {}
    for path in sources():
        unit = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).add(unit)
    return found


def test_no_two_units_name_a_type_alike() -> None:
    """One word, one thing: whoever reads `Progress` need not look where it was imported from."""
    twice = {name: sorted(units) for name, units in type_names().items() if len(units) > 1}
    assert not twice
