"""A corpus of mixed formats, made of what every installation carries: documentation of Python's library and of numpy.

Owns: which texts, and how each becomes a file of its format. Nothing of others is kept here: files are made when they
are asked for, so their text is that of the installed versions (the questions were written for Python 3.11, numpy 2).
"""

from __future__ import annotations

import csv
import errno
import html
import http
import importlib
import inspect
import mimetypes
import os
import pkgutil
import signal
import sysconfig
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ndn_infer.testbed.bench.small_pdf import Titled, small_pdf

_PDF: Final = (
    "argparse asyncio.queues asyncio.tasks bz2 collections concurrent.futures contextlib datetime decimal enum "
    "fractions functools gzip imaplib ipaddress itertools json logging math multiprocessing.pool os.path pathlib "
    "pickle random"
).split()
_DOCX: Final = (
    "queue re selectors shelve shutil smtplib socket sqlite3 ssl statistics string struct subprocess tarfile telnetlib "
    "tempfile textwrap threading time tokenize"
).split()
_MARKDOWN: Final = (
    "traceback tracemalloc types typing unittest unittest.mock urllib.parse urllib.request uuid warnings wave weakref "
    "xml.etree.ElementTree zipfile zlib zoneinfo"
).split()
_SOURCE: Final = "bisect calendar csv difflib fnmatch glob heapq keyword netrc pprint sched secrets shlex".split()
_NUMPY: Final = ("", "linalg", "random", "fft")
_MAX_DOC: Final = 1100


def write_mixed_corpus(folder: Path) -> None:
    """PDF, DOCX, Markdown, HTML, CSV and source code below `folder`. Takes some seconds."""
    for name in _PDF:
        parts = [Titled(title, text) for title, text in documented(name)]
        if parts:
            (folder / f"{name}.pdf").write_bytes(small_pdf(parts))
    for name in _DOCX:
        _write_docx(folder / f"{name}.docx", documented(name))
    for name in _MARKDOWN:
        body = [f"# {name}", *(f"## {title}\n\n{text}" for title, text in documented(name))]
        (folder / f"{name}.md").write_text("\n\n".join(body), "utf-8")
    library = Path(sysconfig.get_path("stdlib"))
    for name in _SOURCE:
        (folder / f"{name}.py").write_bytes((library / f"{name}.py").read_bytes())
    for part in _NUMPY:
        name = f"numpy.{part}" if part else "numpy"
        (folder / f"{name}.html").write_text(_page(name, documented(name)), "utf-8")
    for name, rows in _tables():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def documented(name: str) -> list[tuple[str, str]]:
    """What a module documents, as (title, text): itself, its functions and classes, their public methods."""
    module = importlib.import_module(name)
    found = [(name, inspect.cleandoc(module.__doc__))] if module.__doc__ else []
    public = getattr(module, "__all__", None) or [word for word in vars(module) if not word.startswith("_")]
    for word in sorted(set(public)):
        thing = getattr(module, word, None)
        if isinstance(thing, int | float | str | tuple | dict) or inspect.ismodule(thing):
            continue
        found += _docs_of(f"{name}.{word}", thing)
        if inspect.isclass(thing) and name != "numpy":
            for method, function in sorted(vars(thing).items()):
                if not method.startswith("_"):
                    found += _docs_of(f"{name}.{word}.{method}", function)
    return found


def _docs_of(title: str, thing: Any) -> list[tuple[str, str]]:
    text = inspect.getdoc(thing) if not isinstance(thing, str) else None
    return [(title, text[:_MAX_DOC])] if text and len(text) > 20 else []


def _write_docx(path: Path, parts: Sequence[tuple[str, str]]) -> None:
    import docx

    document = docx.Document()
    for title, text in parts:
        document.add_heading(title, 1 if "." not in title else 2)
        for paragraph in text.split("\n\n"):
            document.add_paragraph("".join(c for c in paragraph if c.isprintable() or c in "\n\t"))
    document.save(str(path))


def _page(name: str, parts: Sequence[tuple[str, str]]) -> str:
    body = [f"<h1>{html.escape(name)}</h1>"]
    for title, text in parts:
        body.append(f"<h2>{html.escape(title)}</h2>")
        for block in text.split("\n\n"):
            tag = "pre" if block.startswith((">>>", "    ")) else "p"
            body.append(f"<{tag}>{html.escape(block)}</{tag}>")
    return f"<!doctype html><title>{name}</title><script>var x = 'no text';</script><body>{''.join(body)}"


def _tables() -> Iterator[tuple[str, list[Sequence[object]]]]:
    statuses = [(status.value, status.phrase, status.description) for status in http.HTTPStatus]
    yield "http_status", [("code", "phrase", "description"), *statuses]
    errors = [(number, name, os.strerror(number)) for number, name in sorted(errno.errorcode.items())]
    yield "errno", [("number", "name", "meaning"), *errors]
    signals = [(one.value, one.name, signal.strsignal(one)) for one in signal.Signals]
    yield "signals", [("number", "name", "meaning"), *signals]
    yield "mime_types", [("suffix", "type"), *sorted(mimetypes.types_map.items())]
    modules = [(module.name, module.ispkg) for module in pkgutil.iter_modules([sysconfig.get_path("stdlib")])]
    yield "modules", [("module", "package"), *modules]
    characters = [*range(0x2190, 0x2400), *range(0x20A0, 0x20C0), *range(0x1F300, 0x1F400)]
    named = [(f"U+{c:04X}", unicodedata.name(chr(c), "")) for c in characters]
    yield "characters", [("code point", "name"), *(row for row in named if row[1])]
