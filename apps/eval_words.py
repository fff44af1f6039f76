"""What eval prints, as lines for people and as JSON with fields that stay.

Owns: these words. Must not know: how anything was found.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.evidence.live.evaluations import Repeated
from ndn_infer.evidence.live.vouched import Vouched
from ndn_infer.evidence.score import Score
from ndn_infer.evidence.statistics import Comparison, Interval

SHOWN: Final = 10
"""Items that are listed where there may be thousands."""


def score_lines(score: Score, record: Vouched) -> list[str]:
    seconds = (score.ended_us - score.began_us) / 1e6
    answers = sum(len(outcome.answers) for outcome in score.outcomes)
    lines = [
        f"{score.suite_label}: {score.score:.4f} of {score.n} items, {interval_words(score.interval)}",
        f"  model {score.alias} ({score.model[:16]}), engine class {score.engine}",
        f"  scorer {score.scorer}, suite {score.suite[:16]}",
        f"  {answers} answers in {seconds:.1f} s, {100 * score.stored_share:.0f} % of them from caches",
        f"  {day(score.began_us)}, signed by {ndn.to_uri(record.signer)}",
        f"  {record.name}",
    ]
    if score.failed:
        why = next(outcome.error for outcome in score.outcomes if not outcome.answers)
        lines.insert(1, f"  {score.failed} items without an answer count 0; the first: {why}")
    return lines


def score_json(score: Score, record: Vouched) -> dict[str, Any]:
    return {"name": record.name, "signer": ndn.to_uri(record.signer), **score.as_json()}


def listed(score: Score) -> str:
    label = f"{score.suite_label}: {score.score:.4f} of {score.n}"
    return f"{day(score.began_us)}  {label}, {score.alias} {score.engine}"


def interval_words(interval: Interval) -> str:
    return f"{100 * interval.level:.0f} % {interval.low:.4f} to {interval.high:.4f} ({interval.method})"


def item_lines(score: Score) -> list[str]:
    lines = []
    for outcome in score.outcomes:
        said = outcome.error or outcome.text.replace("\n", " ")
        lines.append(f"  {outcome.value:4.2f}  {outcome.id:>6}  {said[:100]}")
        lines += [f"                {answer.name}" for answer in outcome.answers[:1]]
    return lines


def repeated_lines(repeated: Repeated, record: Vouched) -> list[str]:
    theirs, ours, found = repeated.theirs, repeated.ours, repeated.found
    seconds = (ours.ended_us - ours.began_us) / 1e6
    lines = [
        f"{theirs.suite_label}: {found.identical} of {found.n} answers identical"
        + (f", {len(found.unanswered)} without an answer" if found.unanswered else ""),
        f"  score {theirs.score:.4f} by {ndn.to_uri(record.signer)}, {ours.score:.4f} here",
        f"  engine class {ours.engine}; {seconds:.1f} s, {100 * ours.stored_share:.0f} % of the answers from caches",
    ]
    for one in found.differing[:SHOWN]:
        lines.append(f"  item {one.id} differs")
        for who, names, digests in (("theirs", one.names[0], one.digests[0]), ("here", one.names[1], one.digests[1])):
            lines += [f"    {who:6} {digest[:16]}  {name}" for name, digest in zip(names, digests, strict=True)]
    if len(found.differing) > SHOWN:
        lines.append(f"  and {len(found.differing) - SHOWN} more (--json lists all)")
    lines += [f"  item {one.id} has no answer: {one.why}" for one in found.unanswered[:SHOWN]]
    if repeated.misjudged:
        lines.append(f"  same answer, another value: items {', '.join(repeated.misjudged[:SHOWN])}")
    return lines


def repeated_json(repeated: Repeated, record: Vouched) -> dict[str, Any]:
    theirs, ours, found = repeated.theirs, repeated.ours, repeated.found
    return {
        "name": record.name, "signer": ndn.to_uri(record.signer), "n": found.n, "identical": found.identical,
        "differing": [
            {"id": one.id, "theirs": _ids(one.names[0], one.digests[0]), "here": _ids(one.names[1], one.digests[1])}
            for one in found.differing
        ],
        "unanswered": [{"id": one.id, "error": one.why} for one in found.unanswered],
        "misjudged": list(repeated.misjudged), "engine": ours.engine, "score_theirs": theirs.score,
        "score_here": ours.score, "stored_share": ours.stored_share,
        "seconds": round((ours.ended_us - ours.began_us) / 1e6, 3),
    }  # fmt: skip


def _ids(names: tuple[str, ...], digests: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": name, "ids": digest} for name, digest in zip(names, digests, strict=True)]


def compared_lines(a: Score, b: Score, found: Comparison) -> list[str]:
    return [
        f"{a.suite_label}: {found.n} items that both have",
        f"  A {found.score_a:.4f}  {a.alias} ({a.model[:8]}) {a.engine}",
        f"  B {found.score_b:.4f}  {b.alias} ({b.model[:8]}) {b.engine}",
        f"  right in both {found.both}, neither {found.neither}, A alone {found.a_only}, B alone {found.b_only}",
        f"  McNemar, exact, two-sided: p = {found.p_value:.4g}",
        f"  B - A = {found.difference:+.4f}, {interval_words(found.interval)}",
    ]


def compared_json(a: Score, b: Score, found: Comparison) -> dict[str, Any]:
    return {"suite": a.suite, "a": {"model": a.model, "engine": a.engine}, "b": {"model": b.model, "engine": b.engine},
            **asdict(found)}  # fmt: skip


def day(us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(us / 1e6))
