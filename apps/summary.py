"""The summary after an answer: where it came from, what it rests on, whose keys; for people and as JSON.

Owns: its words. Must not know: how anything was answered. Three lines for everybody, every name and key with -v.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from ndn_infer import ndn
from ndn_infer.client import Answer
from ndn_infer.client.citing import CheckedCitations
from ndn_infer.evidence.citations import objections
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.ledger import CONTENT_STORE, PRODUCER, Use


def print_summary(answer: Answer, uri: str, *, checked: CheckedCitations | None = None, verbose: int = 0) -> None:
    """To standard error, so that the answer alone can be piped on."""
    lines = ["", *(f"  {line}" for line in _brief(answer, verbose))]
    lines += [f"  {line}" for line in _documents(answer, checked)]
    if verbose:
        lines += [f"  {line}" for line in _names(answer, uri)]
    print("\n".join(lines), file=sys.stderr)


def brief_line(answer: Answer) -> str:
    """One line for people: what was counted, how long it took."""
    return _counts(answer)


def resting_lines(answer: Answer, uri: str) -> list[str]:
    """Everything that an answer rests on: its source, names, keys."""
    return [*_brief(answer, 1), *_documents(answer, None), *_names(answer, uri)]


def _brief(answer: Answer, verbose: int) -> list[str]:
    lines = [_counts(answer)] if answer.prompt_ids else []
    lines += _source(answer)
    if answer.continued:
        lines.append(f"the answer broke off {answer.continued} x and was continued by another producer")
    if answer.conversation.domain != PUBLIC.label:
        lines.append(f"private: question, answer and KV cache sealed in domain {answer.conversation.domain}")
    keys = answer.conversation.ledger.signers()
    bad = answer.conversation.fetcher.bad_packets
    checked = f"verified: every signature and digest, {len(keys)} key{'s' if len(keys) != 1 else ''}"
    checked += f"; {bad} bad packets rejected" if bad else ""
    lines.append(checked + ("" if verbose else "; names and keys: -v"))
    return lines


def _counts(answer: Answer) -> str:
    timing, count = answer.timing, len(answer.ids)
    return (
        f"{answer.model.alias} ({answer.model.digest[:16]}): {len(answer.prompt_ids)} prompt tokens, "
        f"{count} answer tokens{f' ({answer.finish})' if answer.finish else ''}"
        + (f"; first token {timing.first_token_s:.2f} s" if count else "")
        + (f", {timing.tokens_per_s(count):.1f} tokens/s" if count > 1 and not answer.stored else "")
    )


def _source(answer: Answer) -> list[str]:
    """Where the answer came from, and then its KV; of an answer that was stored its KV is old news."""
    if not answer.ids:
        return []
    if answer.stored:
        uses = [use for use in answer.conversation.ledger.uses() if use.kind == "result" and use.source != PRODUCER]
        near = any(use.source == CONTENT_STORE for use in uses)
        where = "the Content Store of this machine" if near else "a store, or work that had begun before"
        return [f"answer from {where}: computed for an earlier question"]
    kv = answer.last.kv if answer.last is not None else None
    parts = []
    if kv is None and not answer.finish:
        return ["answer computed now; it was stopped: what its KV rests on is told at the end of an answer"]
    if kv is not None:
        counts = (
            (kv.content_store, "from the Content Store"), (kv.named - kv.content_store, "fetched from producers"),
            (kv.local, "in the decode node's memory"), (kv.prefilled, "computed by prefill now"),
            (kv.recomputed, "recomputed by decode"),
        )  # fmt: skip
        parts = [f"{count} {words}" for count, words in counts if count > 0]
    return [f"answer computed now; KV blocks of the prompt: {', '.join(parts) or 'none (a short prompt)'}"]


def _documents(answer: Answer, checked: CheckedCitations | None) -> list[str]:
    """The passages that were in the prompt. They are what was given to the model, not a proof: what the answer cites
    and how much of it is in them is said beside, and who signed that."""
    if not answer.cited:
        return []
    cites = checked.found.cited if checked is not None else ()
    lines = ["passages in the prompt" + (f"; the answer cites {', '.join(f'[{n}]' for n in cites)}" if cites else "")]
    for number, item in enumerate(answer.cited, 1):
        page = f", page {item.passage.page}" if item.passage.page else ""
        lines.append(f"  [{number}] {item.passage.source}{page}: {item.passage.title} (score {item.score:.2f})")
        lines.append(f"      {shorten(item.name)}")
    if checked is not None:
        lines += [f"  check the answer; {flag}" for flag in objections(checked.found)]
        lines += [f"  citations checked by {checked.by}"] if checked.by else []
        lines += [f"  {checked.denied} says otherwise, wrongly"] if checked.denied else []
    return lines


def _names(answer: Answer, uri: str) -> list[str]:
    uses = sorted(answer.conversation.ledger.uses(), key=lambda use: use.kind)
    width = max((len(use.kind) for use in uses), default=0)
    lines = [f"names used (network {uri}), one of each kind"]
    for use in uses:
        lines.append(f"  {use.kind:{width}}  {use.uses:4d} x {use.source}")
        if use.example:
            lines.append(f"  {'':{width}}         {use.example}")
    lines += ["keys", *(f"  {key}" for key in answer.conversation.ledger.signers())]
    if answer.last is not None and answer.last.kv is not None:
        lines += [f"  KV of {signed.blocks} blocks: {signed.identity}" for signed in answer.last.kv.signers]
    return lines


def as_json(answer: Answer, uri: str, checked: CheckedCitations | None = None) -> dict[str, Any]:
    """One document with everything the summary says, nothing shortened."""
    last = answer.last
    kv = last.kv if last is not None else None
    return {
        "text": answer.text,
        "token_ids": answer.ids,
        "prompt_token_ids": list(answer.prompt_ids),
        "finish": answer.finish,
        "model": {"alias": answer.model.alias, "digest": answer.model.digest},
        "stream": answer.stream_name,
        "stored": answer.stored,
        "domain": answer.conversation.domain,
        "continued": answer.continued,
        "kv_blocks": asdict(kv) if kv is not None else None,
        "cited": [
            {"number": number, "name": item.name, "score": item.score, "source": item.passage.source,
             "title": item.passage.title, "page": item.passage.page, "signed_by": ndn.to_uri(item.signed_by.key_name)}
            for number, item in enumerate(answer.cited, 1)
        ],
        "citations": _citations(checked),
        "names": [_use(use) for use in answer.conversation.ledger.uses()],
        "verified_keys": list(answer.conversation.ledger.signers()),
        "refused_packets": answer.conversation.fetcher.bad_packets,
        "ttft_s": round(answer.timing.first_token_s, 4),
        "total_s": round(answer.timing.total_s, 4),
        "tokens_per_s": round(answer.timing.tokens_per_s(len(answer.ids)), 2),
        "network": uri,
    }  # fmt: skip


def _citations(checked: CheckedCitations | None) -> dict[str, Any] | None:
    if checked is None:
        return None
    found = checked.found
    return {
        "cited": list(found.cited), "unknown": list(found.unknown), "words": found.words, "foreign": found.foreign,
        "strange": list(found.strange), "flags": list(objections(found)), "checked_by": checked.by or None,
        "result": checked.result or None,
    }  # fmt: skip


def _use(use: Use) -> dict[str, Any]:
    return {
        "kind": use.kind, "source": use.source, "uses": use.uses, "example": use.example,
        "signers": list(use.signers),
    }  # fmt: skip


def shorten(uri: str) -> str:
    """A URI with its digests cut to 8 digits; `ndn-infer names` takes it as well."""
    parts = []
    for part in uri.split("/"):
        label, separator, value = part.rpartition("=")
        hexadecimal = len(value) == 64 and all(digit in "0123456789abcdef" for digit in value)
        parts.append(f"{label}{separator}{value[:8]}..." if hexadecimal else part)
    return "/".join(parts)
