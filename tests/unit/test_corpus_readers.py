"""Readers of formats: structure is kept, what is broken or hostile costs one file and is named."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.corpus.folder import read_passages
from ndn_infer.corpus.markup import Section
from ndn_infer.corpus.passages import MAX_CHARS, cut
from ndn_infer.corpus.readers import MODULES, UnreadableFile, read_sections
from ndn_infer.corpus.readers.apart import ReadingProcess, as_json, sections_from
from ndn_infer.testbed.bench.small_pdf import LINES, Titled, small_pdf

docx = pytest.importorskip("docx")
pytest.importorskip("pypdf")
pytest.importorskip("selectolax")

PDF = small_pdf([Titled("Intro", "First words.\nTwice (bracketed)."), Titled("Deep \\ part", "line\n" * (LINES + 1))])


def paths(sections: list[Section]) -> list[tuple[str, ...]]:
    return [section.path for section in sections]


def word_file(*rows: tuple[str, ...]) -> bytes:
    document = docx.Document()
    document.add_heading("Herons", 1)
    document.add_paragraph("They stand still.")
    document.add_heading("Food", 2)
    table = document.add_table(rows=0, cols=2)
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_a_pdf_has_pages_and_the_titles_of_its_outline() -> None:
    sections = read_sections(PDF, ".pdf")
    assert [(section.path, section.page) for section in sections] == [
        (("Intro",), 1), (("Deep \\ part",), 2), (("Deep \\ part",), 3),
    ]  # fmt: skip
    passages = cut(sections, "a.pdf")
    assert "Twice (bracketed)." in passages[0].text and [p.page for p in passages] == [1, 2, 3]


def test_a_word_file_has_headings_and_rows_that_say_their_columns() -> None:
    sections = read_sections(word_file(("animal", "eats"), ("heron", "fish"), ("", "frogs")), ".docx")
    assert paths(sections) == [("Herons",), ("Herons", "Food")]
    assert cut(sections, "a.docx")[1].text == "animal: heron | eats: fish\neats: frogs"


def test_html_has_headings_tables_and_code_and_no_scripts() -> None:
    page = b"""<title>no</title><script>no</script><nav>no</nav><h1>Sea <b>and</b> land</h1><p>One
      <i>two</i> three<br>four<div>five<ul><li>six<li>seven</ul></div>
      <h2>Table</h2><table><tr><th>a<th>b<tr><td>1<td>2 <b>x</b></table>after<pre>def f():
    return 1</pre><style>no</style><h1>End</h1>&lt;last&gt;"""
    sections = read_sections(page, ".html")
    assert paths(sections) == [("Sea and land",), ("Sea and land", "Table"), ("End",)]
    assert [block.text for block in sections[0].blocks] == ["One two three\nfour", "five", "six", "seven"]
    assert [block.text for block in sections[1].blocks] == ["a: 1 | b: 2 x", "after", "def f():\n    return 1"]
    assert sections[2].blocks[0].text == "<last>"


def test_cells_of_a_table_have_no_scripts() -> None:
    page = b"""<table><tr><th>a<th>b<style>no</style><tr><td>1<script>no()</script><td>2 <b>x
      <svg><text>no</text></svg></b><div>y<noscript>no</noscript></div><tr><td><td>3</table>after"""
    (section,) = read_sections(page, ".html")
    assert [block.text for block in section.blocks] == ["a: 1 | b: 2 x y", "b: 3", "after"]


def test_rows_of_a_table_say_their_columns_whatever_divides_them() -> None:
    for mark in (",", ";", "\t", "|"):
        raw = f'name{mark}price\nheron{mark}"1{mark}5"\n\ncrow{mark}\n'.encode()
        (section,) = read_sections(raw, ".csv")
        assert [block.text for block in section.blocks] == [
            f"name: heron | price: {' '.join(f'1{mark}5'.split())}",
            "name: crow",
        ]
    assert [b.text for b in read_sections(b"only,a,head", ".csv")[0].blocks] == ["only | a | head"]


def test_code_is_cut_at_definitions_and_methods_lie_in_their_class() -> None:
    source = b'"""About."""\n\nclass Bird:\n    x = 1\n\n    @property\n    def fly(self):\n        return 1\n'
    source += b"\ndef land():\n    pass\n"
    sections = read_sections(source, ".py")
    assert paths(sections) == [(), ("Bird",), ("Bird", "fly"), ("land",)]
    assert sections[2].blocks[0].text.startswith("    @property\n    def fly")
    go = read_sections(b"package a\n\n// Sum adds.\nfunc Sum(a int) int {\n\treturn a\n}\n", ".go")
    assert paths(go) == [(), ("Sum",)] and go[1].blocks[0].text.startswith("// Sum adds.")


def test_every_line_of_code_is_in_some_passage() -> None:
    raw = Path(os.__file__).read_bytes()
    kept = "".join("".join(p.text.split()) for p in cut(read_sections(raw, ".py"), "os.py"))
    assert kept == "".join(raw.decode().split())


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in zipfile.ZipFile(io.BytesIO(word_file())).namelist():
            archive.writestr(name, b" " * (70 << 20) if name == "word/document.xml" else b"")
    return out.getvalue()


HOSTILE = {
    "bomb.docx": bomb(),
    "broken.docx": word_file()[:-40],
    "broken.pdf": PDF[:300],
    "circle.pdf": PDF.replace(b"/Kids [4 0 R", b"/Kids [2 0 R"),
    "empty.pdf": b"",
    "no.pdf": b"\xff\x00 no pdf",
    "quotes.csv": b'a,b\n"' + b"x" * 200_000,
    "latin.csv": "é".encode("latin-1"),
    "nul.py": b"a\0b",
}


def test_hostile_files_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, raw in HOSTILE.items():
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "deep.html").write_bytes(b"<div>" * 5_000 + b"deep text")
    (tmp_path / "deep.py").write_bytes(b"(" * 50_000)
    (tmp_path / "good.pdf").write_bytes(PDF)
    (tmp_path / "good.html").write_bytes(b"<p>good text")
    passages = read_passages(tmp_path)
    assert {"good.pdf", "good.html"} <= {p.source for p in passages}
    assert all(0 < len(p.text) <= MAX_CHARS for p in passages)
    for name in HOSTILE.keys() - {"circle.pdf"}:
        assert any(line.startswith(f"skipped {name}: ") for line in caplog.messages), name


def test_a_reader_that_takes_too_long_is_ended_and_the_next_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.pdf")
    (tmp_path / "good.pdf").write_bytes(PDF)
    with ReadingProcess(file_s=0.5) as reader:
        with pytest.raises(UnreadableFile, match="took more than"):
            reader.read(tmp_path / "endless.pdf")
    with ReadingProcess() as reader:
        assert len(reader.read(tmp_path / "good.pdf")) == 3
        with pytest.raises(UnreadableFile, match="cannot be read"):
            reader.read(tmp_path / "none.pdf")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(MODULES) - {".docx", ".pdf"})), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(suffix: str, raw: bytes) -> None:
    try:
        sections = read_sections(raw, suffix)
    except UnreadableFile:
        return
    assert sections_from(as_json(sections)) == sections
    assert all(0 < len(p.text) <= MAX_CHARS for p in cut(sections, f"a{suffix}"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PDF) - 1), st.integers(0, 255), st.sampled_from([".pdf", ".docx"]))
def test_a_changed_byte_is_read_or_refused(at: int, value: int, suffix: str) -> None:
    raw = bytearray(PDF if suffix == ".pdf" else word_file())
    raw[at % len(raw)] = value
    try:
        read_sections(bytes(raw), suffix)
    except UnreadableFile:
        pass


def test_large_formats_are_read_again_only_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = tmp_path / "in", []
    folder.mkdir()
    (folder / "a.pdf").write_bytes(PDF)
    (folder / "b.html").write_bytes(b"<p>good text")
    plain = ReadingProcess.read
    monkeypatch.setattr(ReadingProcess, "read", lambda self, path: (read.append(path.name), plain(self, path))[1])
    first = read_passages(folder, tmp_path)
    assert sorted(read) == ["a.pdf", "b.html"] and read_passages(folder, tmp_path) == first and len(read) == 2
    (folder / "b.html").write_bytes(b"<p>better text")
    assert read_passages(folder, tmp_path)[-1].text == "better text" and read[2:] == ["b.html"]
    (folder / "a.pdf").unlink()
    read_passages(folder, tmp_path)
    (kept,) = (tmp_path / "corpora" / "read").iterdir()
    assert b"bracketed" not in kept.read_bytes()
    kept.write_bytes(b"[damaged")
    assert read_passages(folder, tmp_path)[0].text == "better text"


def test_the_reading_process_starts_quickly(tmp_path: Path) -> None:
    """Not a timing: it imports nothing of the network or the engine, so that one file does not cost seconds."""
    import subprocess
    import sys

    code = "import sys, ndn_infer.corpus.readers.apart; print('torch' in sys.modules, 'ndn' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]
