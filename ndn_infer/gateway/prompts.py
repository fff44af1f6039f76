"""Prompts of a completion, as a request has them: texts or token ids.

Owns: their forms and bounds. Pure. Must not know: other parameters of a request, a model's vocabulary.
"""

from __future__ import annotations

from typing import Any, Final

from ndn_infer.gateway.fields import integer_of, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.records.bounds import MAX_IDS, MAX_TEXT

MAX_PROMPTS: Final = 16


def read_ids(value: list[Any], where: str) -> tuple[int, ...]:
    """Token ids, as far as that can be seen without a model. Raises Refusal."""
    if len(value) > MAX_IDS:
        raise bad(f"{where} has {len(value)} tokens, and {MAX_IDS} are the most", where)
    ids = tuple(integer_of(item, where) for item in value)
    if ids and (min(ids) < 0 or max(ids) >= 1 << 32):
        raise bad(f"{where} has a number that is no token id", where)
    return ids


def read_prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """A text, several, token ids, or several lists of these."""
    if isinstance(value, str):
        return (_prompt(value),)
    if not isinstance(value, list) or not value:
        raise bad("prompt must be a text, token ids, or an array of these", "prompt")
    if isinstance(value[0], str | list):
        if len(value) > MAX_PROMPTS:
            raise bad(f"prompt has {len(value)} items, and {MAX_PROMPTS} are the most", "prompt")
        return tuple(_prompt(item) for item in value)
    return (_prompt(value),)


def _prompt(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        if not value:
            raise bad("prompt is empty", "prompt")
        return text_of(value, "prompt", MAX_TEXT)
    if not isinstance(value, list) or not value:
        raise bad("prompt must be a text, token ids, or an array of these", "prompt")
    return read_ids(value, "prompt")
