"""What a message holds: a text, or an array of parts of which texts are taken.

Owns: reading contents, whatever a form calls its parts. Pure. Must not know: messages, forms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from ndn_infer.gateway.fields import Fields, shown, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.records.bounds import MAX_TEXT

MAX_PARTS: Final = 256


def part_kind(value: Any, where: str) -> str:
    """The type of a part. Raises Refusal for what is no part."""
    if not isinstance(value, dict):
        raise bad(f"{where} must be an object", where)
    return text_of(value.get("type"), f"{where}.type", 64)


def parts_of(value: Any, where: str) -> list[tuple[str, Any]]:
    """The parts of an array, each with its path. Raises Refusal for no array, and for too many."""
    if not isinstance(value, list):
        raise bad(f"{where} must be a string or an array", where)
    if len(value) > MAX_PARTS:
        raise bad(f"{where} has {len(value)} parts, and {MAX_PARTS} are the most", where)
    return [(f"{where}[{index}]", part) for index, part in enumerate(value)]


def text_content(value: Any, where: str, kinds: Mapping[str, str], hints: Collection[str] = ()) -> str:
    """A text, or parts that are texts, which then stand on lines of their own. `kinds` maps types of parts to the field
    that has their text; `hints` are fields without effect on it."""
    if isinstance(value, str):
        return text_of(value, where, MAX_TEXT)
    return "\n".join(text_part(part, path, kinds, hints) for path, part in parts_of(value, where))


def text_part(value: Any, where: str, kinds: Mapping[str, str], hints: Collection[str] = ()) -> str:
    kind = part_kind(value, where)
    if kind not in kinds:
        raise bad(f"{where}.type: {shown(kind)} is not supported, only text is", f"{where}.type", "unsupported_content")
    part = Fields(value, f"{where}.")
    part.expect({"type", kinds[kind], *hints})
    return text_of(part.take(kinds[kind]), f"{where}.{kinds[kind]}", MAX_TEXT)
