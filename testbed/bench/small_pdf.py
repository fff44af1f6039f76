"""A small PDF of text: pages of lines, an outline of titles.

Owns: the little of PDF 1.4 that this takes. For measurements and tests, which may not carry files of others.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LINES: Final = 58
"""Of a page."""
COLUMNS: Final = 96


@dataclass(frozen=True, slots=True)
class Titled:
    title: str
    text: str


def small_pdf(parts: Sequence[Titled]) -> bytes:
    """Each part begins a page, which its title leads to from the outline; what has no place in Latin-1 is a question
    mark."""
    pages: list[list[str]] = []
    starts: list[int] = []
    for part in parts:
        lines = [wrapped for line in part.text.splitlines() for wrapped in textwrap.wrap(line, COLUMNS) or [""]]
        starts.append(len(pages))
        pages += [lines[at : at + LINES] for at in range(0, len(lines), LINES)] or [[]]
    objects = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>"]
    first = len(objects) + 1
    for at, page in enumerate(pages):
        content = b"BT /F1 9 Tf 40 800 Td 13 TL\n" + b"\n".join(_shown(line) for line in page) + b"\nET"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (first + 2 * at + 1)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    root = len(objects) + 1
    objects.append(
        b"<< /Type /Outlines /First %d 0 R /Last %d 0 R /Count %d >>" % (root + 1, root + len(parts), len(parts))
    )
    for at, (part, start) in enumerate(zip(parts, starts, strict=True)):
        links = b"/Next %d 0 R " % (root + at + 2) if at + 1 < len(parts) else b""
        links += b"/Prev %d 0 R " % (root + at) if at else b""
        objects.append(
            b"<< /Title (%s) /Parent %d 0 R %s/Dest [%d 0 R /Fit] >>"
            % (_escaped(part.title), root, links, first + 2 * start)
        )
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R /Outlines %d 0 R >>" % root
    kids = b" ".join(b"%d 0 R" % (first + 2 * at) for at in range(len(pages)))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages))
    return _file(objects)


def _shown(line: str) -> bytes:
    return b"(%s) Tj T*" % _escaped(line)


def _escaped(text: str) -> bytes:
    raw = text.encode("latin-1", "replace")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file(objects: Sequence[bytes]) -> bytes:
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size, start = len(objects) + 1, len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return bytes(out) + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)
