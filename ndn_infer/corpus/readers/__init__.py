"""Readers: from the bytes of a file to its sections (headings, blocks, tables, pages), a module for each format.

Owns: which format a suffix means, and the bounds that all readers keep. Must not know: folders, sizes of passages,
vectors. A reader is a function `bytes, suffix -> list[Section]` that raises UnreadableFile for what it cannot read,
and nothing else that a caller would have to know of: see `read_sections`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

from ndn_infer.corpus.markup import Section
from ndn_infer.errors import EngineUnavailable

MAX_EXPANDED: Final = 64 << 20
"""Characters that a reader takes out of one file, and bytes that it may expand a compressed part to."""
MAX_PAGES: Final = 10_000
"""Pages of a PDF that are read."""
MAX_DEPTH: Final = 512
"""Nesting that a reader follows: elements of HTML, outlines of PDF. What is deeper is read as if it were not nested."""

VERSION: Final = "1"
"""Of what the readers make of equal bytes. Change it with any of them: what was read before is kept by it."""

Reader = Callable[[bytes, str], list[Section]]


class UnreadableFile(Exception):
    """A file that a reader refuses, in one line: broken, encrypted, beyond its bounds. The folder's other files are
    read; the line is what the user sees."""


_CODE: Final = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .go .rs .java .kt .scala .c .h .cc .cpp .cxx .hpp .cs .swift .rb .php .pl "
    ".lua .r .jl .sh .bash .sql .proto"
).split()
_TABLE: Final = {".csv": "table", ".tsv": "table"}
_TEXT: Final = {".md": "text", ".markdown": "text", ".rst": "text", ".txt": "text"}

MODULES: Final = {
    **_TEXT, **_TABLE, ".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf", ".docx": "docx",
    **dict.fromkeys(_CODE, "code"),
}  # fmt: skip
"""The module of this package that reads a suffix."""

APART: Final = frozenset({"html", "pdf", "docx"})
"""Formats whose parsers are large: they read in a process of their own, with bounds on memory and time (apart.py)."""


def read_sections(raw: bytes, suffix: str) -> list[Section]:
    """The sections of a file of this suffix, in reading order. Raises UnreadableFile for whatever is wrong with it,
    EngineUnavailable when the reader's package is not installed."""
    name = MODULES.get(suffix, "text")
    try:
        reader: Reader = importlib.import_module(f"{__name__}.{name}").read
    except ImportError as error:
        raise EngineUnavailable(
            f"reading {suffix} needs the package {error.name}", hint="pip install 'ndn-infer[rag]'"
        ) from error
    try:
        return reader(raw, suffix)
    except UnreadableFile:
        raise
    except RecursionError as error:
        raise UnreadableFile("it is nested too deeply") from error
    except MemoryError as error:
        raise UnreadableFile("it takes too much memory") from error
    except Exception as error:  # parsers of others raise many kinds on what is broken
        raise UnreadableFile(f"it is broken ({type(error).__name__}: {str(error)[:120]})") from error
