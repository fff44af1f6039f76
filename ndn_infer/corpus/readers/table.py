"""Tables: CSV and TSV, by Python's csv.

Owns: rows as lines that say what each cell is. Must not know: passages. A row becomes `column: cell | column: cell`, so
that a passage of rows can be read, and found, without the table's head.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Final

from ndn_infer.corpus.markup import Block, Section
from ndn_infer.corpus.readers import MAX_EXPANDED, UnreadableFile
from ndn_infer.corpus.readers.text import decoded

_SNIFFED: Final = 1 << 16
_MAX_COLUMNS: Final = 1024


def read(raw: bytes, suffix: str) -> list[Section]:
    """One section of one block a row; the first row names the columns. Raises UnreadableFile."""
    text = decoded(raw)
    rows = csv.reader(text.splitlines(keepends=True), dialect=_dialect(text[:_SNIFFED], suffix))
    try:
        head = [cell.strip() for cell in next(rows, [])]
        blocks, size = [], 0
        for row in rows:
            line = as_line(head, row)
            if (size := size + len(line)) > MAX_EXPANDED or len(row) > _MAX_COLUMNS:
                raise UnreadableFile(f"more than {MAX_EXPANDED} characters or {_MAX_COLUMNS} columns")
            if line:
                blocks.append(Block(line, row=True))
    except csv.Error as error:
        raise UnreadableFile(f"no table can be read (line {rows.line_num}: {error})") from error
    if not blocks and any(head):
        blocks = [Block(" | ".join(head), row=True)]
    return [Section((), tuple(blocks))] if blocks else []


def as_line(head: Sequence[str], row: Sequence[str]) -> str:
    """A row in one line, empty cells left out; cells that have no column's name stand alone."""
    cells = []
    for at, cell in enumerate(row):
        if cell := " ".join(cell.split()):
            name = head[at] if at < len(head) else ""
            cells.append(f"{name}: {cell}" if name else cell)
    return " | ".join(cells)


def _dialect(sample: str, suffix: str) -> type[csv.Dialect]:
    if suffix == ".tsv":
        return csv.excel_tab
    first = sample.split("\n", 1)[0]
    counts = {mark: first.count(mark) for mark in ",;\t|"}
    best = max(counts, key=lambda mark: counts[mark])

    class Found(csv.excel):
        delimiter = best if counts[best] else ","

    return Found
