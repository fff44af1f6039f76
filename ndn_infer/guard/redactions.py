"""What of a text is not shown, and what stands there.

Owns: spans that overlap, and the text without them. Must not know: who found the spans, whether the text may be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ndn_infer.records.guard import Redaction


def merged(redactions: Iterable[Redaction]) -> list[Redaction]:
    """Spans of one text, in order, those that overlap as one; empty ones left out."""
    found: list[Redaction] = []
    for span in sorted(redactions, key=lambda one: (one.start, one.end)):
        if found and span.start < found[-1].end:
            found[-1] = replace(found[-1], end=max(found[-1].end, span.end))
        elif span.end > span.start:
            found.append(span)
    return found


def without(spans: Sequence[Redaction], text: str, start: int = 0) -> str:
    """`text`, which begins at character `start` of what the spans count in, with labels in their place. `spans`: as
    `merged` gives them; of one that began before `text` the label is not said again."""
    shown, place = "", start
    for span in spans:
        if span.end <= start or span.start >= start + len(text):
            continue
        shown += text[place - start : max(place, span.start) - start]
        shown += f"[{span.label}]" if span.start >= start else ""
        place = span.end
    return shown + text[place - start :]
