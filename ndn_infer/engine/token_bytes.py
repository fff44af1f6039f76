"""The bytes of single tokens: what a reader of log probabilities prints.

Owns: how vocabularies write bytes. Must not know: text of a growing answer (tokenizer.py). A token may be part of a
character, so this is bytes and not text; all tokens of an answer joined are its text, but for special tokens and for
what a tokenizer strips from the beginning.

Two ways are in use: byte-level BPE, which writes each byte as a printable character, and SentencePiece, which writes
U+2581 for a space and <0x80> for a byte that is no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from tokenizers import Tokenizer

MOST_BYTES: Final = 64
"""Of one token; a vocabulary may hold longer ones, runs of blanks for example. What is longer is cut (records.py)."""

_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")


def token_bytes_of(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """A function from id to bytes, b"" for an id that the tokenizer does not know."""
    decoder = json.loads(tokenizer.to_str()).get("decoder")
    added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
    plain = _byte_level if "ByteLevel" in _kinds(decoder) else _sentence_piece

    @lru_cache(1 << 14)
    def token_bytes(number: int) -> bytes:
        if number in added:
            return added[number].encode()[:MOST_BYTES]
        token = tokenizer.id_to_token(number) if 0 <= number < 1 << 32 else None
        return b"" if token is None else plain(token)[:MOST_BYTES]

    return token_bytes


def _kinds(decoder: Any) -> set[str]:
    """The types of a decoder and its parts, as tokenizer.json tells them."""
    if not isinstance(decoder, dict):
        return set()
    return {str(decoder.get("type")), *(kind for part in decoder.get("decoders", ()) for kind in _kinds(part))}


def _byte_level(token: str) -> bytes:
    return b"".join(_BYTE_OF[char] if char in _BYTE_OF else char.encode() for char in token)


def _sentence_piece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes((int(byte[1], 16),)) if byte else token.replace("\u2581", " ").encode()


def _byte_characters() -> dict[str, bytes]:
    """GPT-2's table: printable bytes stand for themselves, the others for characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table = {chr(byte): bytes((byte,)) for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return table | {chr(0x100 + at): bytes((byte,)) for at, byte in enumerate(others)}


_BYTE_OF: Final = _byte_characters()
