"""Judging texts that are there as a whole: the messages of a prompt.

Owns: the verdict on them. Must not know: calls, how models are asked.

Messages are judged one behind the other, as one text with a line break between: what is split over two is found too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from ndn_infer.guard.answer_judge import TOO_MANY
from ndn_infer.guard.covered import digest_of_texts
from ndn_infer.guard.judge import PolicyRules, RuleHit, TextJudge, language_hits, length_hits
from ndn_infer.guard.redactions import merged, without
from ndn_infer.records.guard import ALLOW, BLOCK, MAX_HITS, REDACT, Redaction, TextVerdict


def verdict_on_texts(rules: PolicyRules, texts: Sequence[str], whole: Iterable[RuleHit], now_us: int) -> TextVerdict:
    """`whole`: what models of the network say. A pattern that takes too long raises TimeoutError."""
    joined = "\n".join(texts)
    judge = TextJudge(rules)
    hits = [*whole, *judge.push(joined, last=True), *length_hits(rules, 0, len(joined)), *language_hits(rules, joined)]
    spans = list(_spans(hits, texts))
    blocked = [hit.rule.id for hit in hits if hit.rule.action == BLOCK]
    if len(spans) > MAX_HITS:
        blocked.append(TOO_MANY)
    action = BLOCK if blocked else REDACT if spans else ALLOW
    named = blocked or [hit.rule.id for hit in hits]
    return TextVerdict(
        rules.policy.digest, digest_of_texts(texts), action, now_us + int(rules.policy.valid_s * 1e6),
        tuple(dict.fromkeys(named))[:MAX_HITS], tuple(spans) if action == REDACT else (),
    )  # fmt: skip


def _spans(hits: Iterable[RuleHit], texts: Sequence[str]) -> Iterator[Redaction]:
    """What is to be redacted of each text, in its own characters."""
    starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
    for hit in sorted({(hit.start, hit.end, hit.label) for hit in hits if hit.rule.action == REDACT}):
        start, end, label = hit
        for number in range(bisect_right(starts, start) - 1, len(texts)):
            first, last = max(start, starts[number]), min(end, starts[number] + len(texts[number]))
            if starts[number] >= end:
                break
            if first < last:
                yield Redaction(first - starts[number], last - starts[number], label[:128], number)


def redacted(texts: Sequence[str], redactions: Iterable[Redaction]) -> tuple[str, ...]:
    """The texts with labels in place of what is redacted."""
    spans = list(redactions)
    return tuple(
        without(merged(span for span in spans if span.text == number), text) for number, text in enumerate(texts)
    )
