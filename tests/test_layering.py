"""Imports point down only: the table below is the architecture, and this test enforces it.

Lazy imports and imports under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ndn_infer"

GROUND = {"errors", "addresses", "tlv", "name", "packet", "lp", "config", "namespace", "records", "tensors", "chain"}

# unit -> units it may import (itself always)
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "addresses": set(),
    "tlv": {"errors"},
    "name": {"errors", "tlv"},
    "packet": {"errors", "tlv", "name"},
    "lp": {"errors", "tlv"},
    "config": {"errors"},
    "tensors": {"errors"},
    "chain": set(),
    "records": {"errors"},
    "namespace": {"errors", "name"},
    "wire": GROUND - {"records", "config", "namespace"},
    "security": {"errors", "tlv", "name", "packet", "namespace", "chain", "records", "wire"},
    "forwarder": {"errors", "addresses", "tlv", "name", "packet", "lp", "wire"},
    "transport": GROUND | {"wire", "security"},
    "engine": {"errors", "chain"},
    "models": {"errors"},
    "corpus": {"errors"},
    "catalog": GROUND | {"wire", "security"},
    "client": GROUND | {"wire", "security", "transport"},
    "functions": GROUND | {"wire", "security", "transport", "engine", "models", "corpus"},
    # Mini-NDN's classes are only there on machines that have Mini-NDN.
    "testbed": GROUND
    | {"wire", "security", "transport", "forwarder", "engine", "models", "client", "catalog", "functions", "apps"},
    "apps": GROUND
    | {"wire", "security", "transport", "forwarder", "engine", "models", "corpus", "catalog", "client", "functions"}
    | {"testbed"},
    "__init__": set(),
    "__main__": {"apps"},
}

# third-party packages that only these units may touch
ONLY: dict[str, set[str]] = {
    "torch": {"engine", "functions", "models", "testbed"},
    "transformers": {"engine", "models", "testbed"},
    "msgpack": {"records"},
    "ndn": {"security", "testbed"},
    "aiohttp": {"forwarder"},
    "prometheus_client": {"forwarder"},
    "asyncio": {"transport", "security", "forwarder", "functions", "apps", "testbed"},
}

FORWARDER_SHELLS = {
    "cs_disk", "daemon", "dialer", "inprocess", "listeners", "metrics_server", "ports", "sockaddr", "trace_file",
    "transports", "udp", "websocket",
}  # fmt: skip

# pure cores: no socket, no clock, no event loop
PURE = [*sorted((PACKAGE / "wire").glob("*.py"))] + [
    path for path in sorted((PACKAGE / "forwarder").glob("*.py")) if path.stem not in FORWARDER_SHELLS
]
IMPURE_MODULES = {"asyncio", "socket", "time", "selectors", "threading", "subprocess"}


def sources() -> list[Path]:
    """Every module, apps/ and testbed/ through their links (rglob does not follow those)."""
    linked = [path for link in ("apps", "testbed") for path in (PACKAGE / link).resolve().rglob("*.py")]
    return sorted([*PACKAGE.rglob("*.py"), *(PACKAGE / path.relative_to(ROOT) for path in linked)])


def unit_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


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
    assert unit in ALLOWED, f"{unit} has no place in the house yet"
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "ndn_infer" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] == unit or parts[1] in ALLOWED[unit], f"{unit} must not import {module}"
        elif parts[0] in ONLY:
            assert unit in ONLY[parts[0]], f"{unit} must not touch {parts[0]}"


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_cores_touch_no_clock_and_no_socket(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & IMPURE_MODULES


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
