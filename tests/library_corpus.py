"""A corpus of real passages that every Python carries: the documentation strings of the standard library's modules.

Exported at test time, so that no text of others is kept here. 294 passages on Python 3.11, of which a quick run takes
the modules that hold answers and every third other one.
"""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

QUESTIONS = json.loads((Path(__file__).parent / "data" / "rag_library_questions.json").read_text("utf-8"))
"""Written before any retrieval over this corpus; `must_contain` stands in the passage that answers."""


def export(folder: Path, every: int = 1) -> None:
    """One text file a module: of those that answer no question, one in `every`."""
    library, skipped = Path(sysconfig.get_path("stdlib")), 0
    for path in sorted([*library.glob("*.py"), *library.glob("*/__init__.py")]):
        relative = path.relative_to(library)
        if {"site-packages", "test"} & set(relative.parts):
            continue
        text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if text:
            name = path.parent.name if path.name == "__init__.py" else path.stem
            if not any(holds(text, question) for question in QUESTIONS):
                skipped += 1
                if skipped % every:
                    continue
            (folder / f"{name}.txt").write_text(text, "utf-8")


def holds(passage: str, question: dict[str, str]) -> bool:
    return question["must_contain"] in " ".join(passage.split())
