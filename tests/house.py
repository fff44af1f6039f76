"""Figures of the source as a reader meets it: sizes, parameters, cycles, types, docstrings, files for one prompt.

    python -m tests.house          a table; the last line is JSON

Owns: what is counted and how. `apps/` and `testbed/` are counted apart, as folders of their own. A function's lines go
from `def` to its last statement without decorators and docstring; nested ones count in both. Must not know: what a good
figure is.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.test_layering import PACKAGE, ROOT, imports, sources

MANY_PARAMETERS: Final = 5
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def public(self) -> Iterator[tuple[Function, str]]:
        """Functions and methods without an underscore on the way to them, with the name of their class or ""."""
        yield from _public(self.tree.body, "")


def _public(body: Sequence[ast.stmt], owner: str) -> Iterator[tuple[Function, str]]:
    for node in body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node, owner
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body, node.name)


def body_lines(function: Function) -> int:
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None or not isinstance(first, ast.Expr):
        return (function.end_lineno or 0) - function.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - ((first.end_lineno or 0) - first.lineno + 1)


def parameters(function: Function) -> list[ast.arg]:
    """Without self and cls."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [one for one in every if one.arg not in ("self", "cls")]


def is_typed(function: Function) -> bool:
    """Every parameter and the result are annotated."""
    more = [one for one in (function.args.vararg, function.args.kwarg) if one is not None]
    return function.returns is not None and all(one.annotation for one in (*parameters(function), *more))


def figures(found: Sequence[Source]) -> dict[str, Any]:
    functions = [function for source in found for function in source.functions()]
    sizes = sorted(body_lines(function) for function in functions)
    counts = [len(parameters(function)) for function in functions]
    public = [function for source in found for function, _ in source.public()]
    lines = [source.lines for source in found]
    return {
        "files": len(found),
        "lines": sum(lines),
        "lines a file, median / max": [int(statistics.median(lines)), max(lines)],
        "files above 400 lines": sum(count > 400 for count in lines),
        "functions": len(functions),
        "lines a function, median / p95 / max": [
            int(statistics.median(sizes)), sizes[int(0.95 * (len(sizes) - 1))], sizes[-1],
        ],
        "functions above 30 lines": sum(size > 30 for size in sizes),
        "parameters, most": max(counts),
        f"functions with more than {MANY_PARAMETERS} parameters, %": _percent(
            sum(count > MANY_PARAMETERS for count in counts), len(counts)
        ),
        "functions typed, %": _percent(sum(map(is_typed, functions)), len(functions)),
        "public functions with a docstring, %": _percent(
            sum(ast.get_docstring(function) is not None for function in public), len(public)
        ),
        "modules with a docstring, %": _percent(
            sum(ast.get_docstring(source.tree) is not None for source in found), len(found)
        ),
    }  # fmt: skip


def _percent(part: int, whole: int) -> float:
    return round(100 * part / max(whole, 1), 1)


def cycles() -> int:
    """Modules that import themselves in the end, lazy imports and those for types counted."""
    modules = {".".join(("ndn_infer", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in sources()}
    graph = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    found = 0
    for name in graph:
        reached, waiting = set[str](), list(graph[name])
        while waiting:
            other = waiting.pop()
            if other not in reached:
                reached.add(other)
                waiting += graph[other]
        found += name in reached
    return found


def path_of_a_prompt() -> tuple[int, int]:
    """(files, lines) that docs/path_of_a_prompt.md leads through."""
    page = (ROOT / "docs" / "path_of_a_prompt.md").read_text("utf-8")
    files = set(re.findall(r"`((?:ndn_infer|apps|schemas)/[\w./-]+\.\w+)`", page))
    return len(files), sum(len((ROOT / path).read_text("utf-8").splitlines()) for path in files)


def house() -> dict[str, dict[str, Any]]:
    """Figures by part: the package without its two top-level folders, then these."""
    parts: dict[str, list[Source]] = {"ndn_infer": [], "apps": [], "testbed": []}
    for path in sources():
        text = path.read_text("utf-8")
        first = path.relative_to(PACKAGE).parts[0]
        parts[first if first in parts else "ndn_infer"].append(Source(path, text, ast.parse(text)))
    found = {part: figures(group) for part, group in parts.items()}
    files, lines = path_of_a_prompt()
    found["ndn_infer"] |= {"modules in import cycles": cycles(), "files / lines for one prompt": [files, lines]}
    return found


def main() -> int:
    found = house()
    print(f"{'':46}" + "".join(f"{part:>16}" for part in found))
    for key in found["ndn_infer"]:
        values = [found[part].get(key, "") for part in found]
        texts = [" / ".join(f"{one:,}" for one in value) if isinstance(value, list) else f"{value}" for value in values]
        print(f"{key:46}" + "".join(f"{text:>16}" for text in texts))
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
