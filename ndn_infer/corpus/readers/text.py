"""Markdown, reStructuredText and plain text.

Owns: decoding. Must not know: how structure is found (markup.py).
"""

from __future__ import annotations

from typing import Final

from ndn_infer.corpus.markup import Language, Section, parse_sections
from ndn_infer.corpus.readers import UnreadableFile

LANGUAGES: Final[dict[str, Language]] = {".md": "markdown", ".markdown": "markdown", ".rst": "rst", ".txt": "plain"}


def read(raw: bytes, suffix: str) -> list[Section]:
    """Raises UnreadableFile for what is not UTF-8."""
    return parse_sections(decoded(raw), LANGUAGES.get(suffix, "plain"))


def decoded(raw: bytes) -> str:
    """UTF-8, with or without a mark at its beginning. Raises UnreadableFile, which says how to convert it."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"not UTF-8 text (byte {error.start}); convert it with iconv -t UTF-8") from error
    if "\0" in text:
        raise UnreadableFile("it holds NUL bytes, so it is not text")
    return text
