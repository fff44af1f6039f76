"""Spans: which ids of a prompt a passage became. Found in the bytes of the prompt's tokens, or not at all.

Owns: how they are found and checked. Must not know: tokenizers (the bytes of each token are given), who asks.

The message stands in the prompt's text, which is the bytes of its tokens one after the other: where its bytes are found
there exactly once, the place of each part of it is known, and the span of the part is the fewest ids whose bytes cover
it. A token at the edge of a passage may hold a little of what stands beside it. Where the message is not found, or more
than once (a template that rewrites messages, a tokenizer that rewrites text), no span is told: nothing is guessed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

Span = tuple[int, int]


def spans_in(pieces: Sequence[bytes], message: str, parts: Sequence[Span]) -> list[Span | str]:
    """For each part of `message` (first character, end) the ids (first, end) that it became; `pieces` are the bytes of
    the prompt's tokens. In place of a span that cannot be established: why not."""
    whole = b"".join(pieces)
    ends = list(accumulate(map(len, pieces)))
    text = message.strip()  # templates trim messages
    found = _places(whole, text.encode("utf-8", "surrogatepass"))
    if len(found) != 1:
        times = "nowhere" if not found else "more than once"
        return [f"the message stands {times} in the text of the prompt's tokens"] * len(parts)
    trimmed, result = len(message) - len(message.lstrip()), list[Span | str]()
    for first, end in parts:
        if not 0 <= first < end <= len(message):
            result.append("it does not stand in the message")
            continue
        start, stop = (
            found[0] + len(text[: max(at - trimmed, 0)].encode("utf-8", "surrogatepass")) for at in (first, end)
        )
        span = bisect_right(ends, start), bisect_left(ends, stop) + 1
        result.append(span if span[0] < span[1] else "it is empty without white space")
    return result


def covers(pieces: Sequence[bytes], span: Span, text: str) -> bool:
    """Whether these ids, and no fewer, hold `text` but for white space at its ends."""
    wanted = text.strip().encode("utf-8", "surrogatepass")
    first, end = span
    if not 0 <= first < end <= len(pieces) or not wanted:
        return False
    return wanted in b"".join(pieces[first:end])


def _places(whole: bytes, part: bytes) -> list[int]:
    """Where it begins; two places at most."""
    places: list[int] = []
    at = whole.find(part) if part else -1
    while at >= 0 and len(places) < 2:
        places.append(at)
        at = whole.find(part, at + 1)
    return places
