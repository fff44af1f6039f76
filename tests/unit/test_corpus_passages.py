"""Texts to sections to passages: structure is kept, sizes hold, nothing is lost, bad folders are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ndn_infer.corpus.folder import read_passages
from ndn_infer.corpus.markup import parse_sections
from ndn_infer.corpus.passages import MAX_CHARS, TARGET_CHARS, CorpusPassage
from ndn_infer.corpus.passages import cut as cut_sections
from ndn_infer.corpus.readers import read_sections
from ndn_infer.errors import UsageError


def cut(text: str, source: str) -> list[CorpusPassage]:
    return cut_sections(read_sections(text.replace("\0", "").encode("utf-8", "replace"), Path(source).suffix), source)


MARKDOWN = """intro

# One #
first

Two
---
second
```python
# not a heading

x = 1
```
### Deep
third
# Other
fourth
"""


def test_markdown_headings_make_the_title_and_fences_hide_them() -> None:
    passages = cut(MARKDOWN, "docs/guide.md")
    assert [(p.title, p.text.split("\n")[0]) for p in passages] == [
        ("guide", "intro"),
        ("One", "first"),
        ("One > Two", "second"),
        ("One > Two > Deep", "third"),
        ("Other", "fourth"),
    ]
    assert "```python\n# not a heading\n\nx = 1\n```" in passages[2].text
    assert [p.index for p in passages] == [0, 1, 2, 3, 4]


def test_rst_underlines_and_overlines_give_levels_in_order_of_appearance() -> None:
    text = "=====\nTitle\n=====\n\na\n\nPart\n****\n\nb\n\nSub\n===\n\nc\n\nNext\n****\n\nd\n\n----\n\ne\n"
    titles = [p.title for p in cut(text, "x.rst")]
    assert titles == ["Title", "Title > Part", "Title > Part > Sub", "Title > Next"]
    assert [s.path for s in parse_sections("Title too long\n===\n\nx", "rst")] == [()]


@pytest.mark.parametrize("hashes", ["#hashtag", "####### seven"])
def test_what_is_no_heading_stays_text(hashes: str) -> None:
    assert [p.text for p in cut(hashes, "a.md")] == [hashes]


def test_closing_hashes_go_and_other_hashes_stay() -> None:
    text = "# C#\n\na\n\n# B ##  \n\nb\n\n#\n\nc\n\n# " + " " * 20_000 + "x#" * 20_000 + "\n\nd"
    assert [p.title[:3] for p in cut(text, "a.md")] == ["C#", "B", "a", "x#x"]


def test_hash_lines_of_plain_text_are_text() -> None:
    assert cut("# comment\n\nbody", "a.txt")[0].text == "# comment\n\nbody"


def test_paragraphs_merge_to_the_target_and_no_further() -> None:
    paragraph = "word " * 59 + "end."
    passages = cut("\n\n".join([paragraph] * 7), "a.txt")
    assert [p.text.count("end.") for p in passages] == [2, 2, 2, 1]
    assert all(len(p.text) <= TARGET_CHARS for p in passages)


def test_a_long_fence_is_cut_at_line_ends_and_each_part_is_fenced() -> None:
    body = [f"value_{number} = {number}" for number in range(200)]
    parts = [p.text for p in cut("~~~py\n" + "\n".join(body) + "\n~~~\n", "a.md")]
    assert len(parts) > 1 and all(p.startswith("~~~py\n") and p.endswith("\n~~~") for p in parts)
    assert [line for part in parts for line in part.split("\n")[1:-1]] == body


def test_long_text_is_cut_at_sentences_and_a_long_word_anywhere() -> None:
    sentences = " ".join(f"Sentence number {n} says little." for n in range(100))
    passages = cut(sentences, "a.txt")
    assert len(passages) > 1 and all(p.text.endswith(".") for p in passages)
    assert "".join(p.text for p in cut("x" * 5000, "a.txt")) == "x" * 5000


@given(
    st.lists(st.sampled_from(["# A", "==", "```", "~~~", "word " * 40, "x" * 2500, "", "   in", "- - -", "é。"])),
    st.sampled_from(["a.md", "a.rst", "a.txt"]),
)
def test_sizes_hold_and_no_word_of_a_paragraph_is_lost(lines: list[str], source: str) -> None:
    text = "\n".join(lines)
    assume(source != "a.md" or "word \n==" not in text)  # that is a heading, however long
    passages = cut(text, source)
    assert passages == cut(text, source)
    assert all(0 < len(p.text) <= MAX_CHARS and p.text.strip() and p.title for p in passages)
    assert "".join(p.text for p in passages).count("word") == text.count("word")


@given(st.text(max_size=400), st.sampled_from(["a.md", "a.rst", "a.txt"]))
def test_any_text_is_cut_without_an_error(text: str, source: str) -> None:
    assert all(0 < len(p.text) <= MAX_CHARS for p in cut(text, source))


def test_a_folder_is_read_sorted_and_copies_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("hidden")
    (tmp_path / "b" / "two.MD").write_bytes(b"\xef\xbb\xbf# H\r\n\r\nsame  text\r\n\r\n# I\r\nmore")
    (tmp_path / "a.txt").write_text("same\ntext")
    (tmp_path / "c.pdf").write_bytes(b"\xff")
    passages = read_passages(tmp_path)
    assert passages == (CorpusPassage("a.txt", "a", "same\ntext", 0), CorpusPassage("b/two.MD", "I", "more", 1))
    assert passages[0] < passages[1] and not passages[1] < passages[0]


def test_links_out_of_the_folder_are_refused_and_links_inside_left_out(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "secret.txt"
    folder.mkdir()
    outside.write_text("secret")
    (folder / "a.txt").write_text("text")
    (folder / "b.txt").symlink_to(folder / "a.txt")
    (folder / "loop").symlink_to(folder)
    assert [p.source for p in read_passages(folder)] == ["a.txt"]
    (folder / "c.txt").symlink_to(outside)
    with pytest.raises(UsageError, match="c.txt is a link that leads out"):
        read_passages(folder)
    (folder / "c.txt").unlink()
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="up is a link that leads out"):
        read_passages(folder)


def test_one_file_that_is_no_text_is_skipped_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "bad.txt").write_bytes(b"ok \xff")
    (tmp_path / "utf16.md").write_bytes("# Hello".encode("utf-16"))
    (tmp_path / "binary.txt").write_bytes(b"a\0b")
    (tmp_path / "loop.md").symlink_to("loop.md")
    (tmp_path / "dangling.md").symlink_to("nowhere.md")
    (tmp_path / "mutual.md").symlink_to("mutual2.md")
    (tmp_path / "mutual2.md").symlink_to("mutual.md")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("text of a strange name")
    assert [p.source for p in read_passages(tmp_path)] == ["good.txt"]
    for name in ("bad.txt", "utf16.md", "binary.txt", "loop.md", "dangling.md", "mutual.md", "mutual2.md", "caf"):
        assert any(name in line and line.startswith("skipped") for line in caplog.messages), name
    (tmp_path / "good.txt").unlink()
    with pytest.raises(UsageError, match="no text in"):
        read_passages(tmp_path)


def test_bad_folders_and_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError) as caught:
            read_passages(folder)
        assert str(folder) in str(caught.value) and ".md" in caught.value.hint
    (tmp_path / "good.txt").write_text("text")
    monkeypatch.setattr("ndn_infer.corpus.folder.MAX_FILE_BYTES", 3)
    with pytest.raises(UsageError, match="larger than"):
        read_passages(tmp_path)
