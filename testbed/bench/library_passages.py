"""Ten thousand real passages, and a thousand files: documentation strings of what is installed beside this program.

Owns: which texts, and how they are spread over files. Nothing of others is kept here: files are made when they are
asked for, out of source files, which are parsed and never run.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LEAST_CHARS: Final = 80
"""Of one text: shorter ones are remarks."""
MOST_CHARS: Final = 900
"""A longer one is cut here: a passage each."""


def write_library(folder: Path, passages: int, files: int) -> int:
    """So many passages in so many Markdown files, as far as there are texts; how many passages there are."""
    texts: list[tuple[str, str]] = []
    seen: set[str] = set()
    for title, text in _documented():
        key = " ".join(text.split())
        if key not in seen:
            seen.add(key)
            texts.append((title, text))
        if len(texts) == passages:
            break
    each = -(-len(texts) // files)
    for number in range(0, len(texts), each):
        body = "\n\n".join(f"# {title}\n\n{text}" for title, text in texts[number : number + each])
        (folder / f"{number // each:04}.md").write_text(body + "\n", "utf-8")
    return len(texts)


def _documented() -> Iterator[tuple[str, str]]:
    roots = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            if "site-packages" in path.relative_to(root).parts:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, RecursionError, OSError):
                continue
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node) or ""
                    if len(text) >= LEAST_CHARS:
                        title = f"{module}.{getattr(node, 'name', '')}".rstrip(".")
                        yield from ((title, part) for part in _parts(text))


def _parts(text: str) -> Iterator[str]:
    """Pieces of one paragraph each: nothing in them is a heading, a fence or a list of Markdown."""
    plain = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    for start in range(0, len(plain), MOST_CHARS):
        if len(part := plain[start : start + MOST_CHARS]) >= LEAST_CHARS:
            yield part
