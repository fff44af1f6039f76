"""The summary after an answer: where it came from, what it rests on, whose keys; for people and as JSON.

Owns: its words. Must not know: how anything was answered. Three lines for everybody, every name and key with -v.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from ndn_infer import ndn
from ndn_infer.apps.retrieval import marks, strange_words
from ndn_infer.client import Client, Outcome
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.ledger import CONTENT_STORE, PRODUCER, Use

STRANGE_PART = 0.5
"""An answer with more of its words outside the passages than this is said not to rest on them."""


def print_summary(outcome: Outcome, client: Client, uri: str, *, question: str = "", verbose: int = 0) -> None:
    """To standard error, so that the answer alone can be piped on."""
    lines = ["", *(f"  {line}" for line in _brief(outcome, client, verbose))]
    lines += [f"  {line}" for line in _documents(outcome, question)]
    if verbose:
        lines += [f"  {line}" for line in _names(outcome, client, uri)]
    print("\n".join(lines), file=sys.stderr)


def _brief(outcome: Outcome, client: Client, verbose: int) -> list[str]:
    lines = [_counts(outcome)] if outcome.prompt_ids else []
    lines += _source(outcome, client)
    if outcome.continued:
        lines.append(f"the answer broke off {outcome.continued} x and was continued by another producer")
    if client.domain != PUBLIC.label:
        lines.append(f"private: question, answer and KV cache sealed in domain {client.domain}")
    keys = client.ledger.signers()
    bad = client.fetcher.bad_packets
    checked = f"verified: every signature and digest, {len(keys)} key{'s' if len(keys) != 1 else ''}"
    checked += f"; {bad} bad packets rejected" if bad else ""
    lines.append(checked + ("" if verbose else "; names and keys: -v"))
    return lines


def _counts(outcome: Outcome) -> str:
    timing, count = outcome.timing, len(outcome.ids)
    return (
        f"{outcome.model.alias} ({outcome.model.digest[:16]}): {len(outcome.prompt_ids)} prompt tokens, "
        f"{count} answer tokens{f' ({outcome.finish})' if outcome.finish else ''}"
        + (f"; first token {timing.first_token_s:.2f} s" if count else "")
        + (f", {timing.tokens_per_s(count):.1f} tokens/s" if count > 1 and not outcome.stored else "")
    )


def _source(outcome: Outcome, client: Client) -> list[str]:
    """Where the answer came from, and then its KV; of an answer that was stored its KV is old news."""
    if not outcome.ids:
        return []
    if outcome.stored:
        uses = [use for use in client.ledger.uses() if use.kind == "result" and use.source != PRODUCER]
        near = any(use.source == CONTENT_STORE for use in uses)
        where = "the Content Store of this machine" if near else "a store, or work that had begun before"
        return [f"answer from {where}: computed for an earlier question"]
    kv = outcome.last.kv if outcome.last is not None else None
    parts = []
    if kv is not None:
        counts = (
            (kv.content_store, "from the Content Store"), (kv.named - kv.content_store, "fetched from producers"),
            (kv.local, "in the decode node's memory"), (kv.prefilled, "computed by prefill now"),
            (kv.recomputed, "recomputed by decode"),
        )  # fmt: skip
        parts = [f"{count} {words}" for count, words in counts if count > 0]
    return [f"answer computed now; KV blocks of the prompt: {', '.join(parts) or 'none (a short prompt)'}"]


def _documents(outcome: Outcome, question: str) -> list[str]:
    """The passages that were in the prompt. They are what was given to the model, not a proof: what the answer cites
    and how much of it is in them is said beside."""
    if not outcome.cited:
        return []
    cites = marks(outcome.text, len(outcome.cited))
    lines = ["passages in the prompt" + (f"; the answer cites {', '.join(f'[{n}]' for n in cites)}" if cites else "")]
    for number, item in enumerate(outcome.cited, 1):
        lines.append(f"  [{number}] {item.passage.source}: {item.passage.title} (score {item.score:.2f})")
        lines.append(f"      {shorten(item.name)}")
    part, words = strange_words(outcome.text, question, outcome.cited)
    if part > STRANGE_PART:
        more = " ..." if len(words) > 6 else ""
        lines.append(f"  check the answer; words that are in none of them: {', '.join(words[:6])}{more}")
    return lines


def _names(outcome: Outcome, client: Client, uri: str) -> list[str]:
    uses = sorted(client.ledger.uses(), key=lambda use: use.kind)
    width = max((len(use.kind) for use in uses), default=0)
    lines = [f"names used (network {uri}), one of each kind"]
    for use in uses:
        lines.append(f"  {use.kind:{width}}  {use.uses:4d} x {use.source}")
        if use.example:
            lines.append(f"  {'':{width}}         {use.example}")
    lines += ["keys", *(f"  {key}" for key in client.ledger.signers())]
    if outcome.last is not None and outcome.last.kv is not None:
        lines += [f"  KV of {signed.blocks} blocks: {signed.identity}" for signed in outcome.last.kv.signers]
    return lines


def as_json(outcome: Outcome, client: Client, uri: str) -> dict[str, Any]:
    """One document with everything the summary says, nothing shortened."""
    last = outcome.last
    kv = last.kv if last is not None else None
    return {
        "text": outcome.text,
        "token_ids": outcome.ids,
        "prompt_token_ids": list(outcome.prompt_ids),
        "finish": outcome.finish,
        "model": {"alias": outcome.model.alias, "digest": outcome.model.digest},
        "stream": outcome.stream_name,
        "stored": outcome.stored,
        "domain": client.domain,
        "continued": outcome.continued,
        "kv_blocks": asdict(kv) if kv is not None else None,
        "cited": [
            {"number": number, "name": item.name, "score": item.score, "source": item.passage.source,
             "title": item.passage.title, "signed_by": ndn.to_uri(item.signed_by.key_name)}
            for number, item in enumerate(outcome.cited, 1)
        ],
        "names": [_use(use) for use in client.ledger.uses()],
        "verified_keys": list(client.ledger.signers()),
        "refused_packets": client.fetcher.bad_packets,
        "ttft_s": round(outcome.timing.first_token_s, 4),
        "total_s": round(outcome.timing.total_s, 4),
        "tokens_per_s": round(outcome.timing.tokens_per_s(len(outcome.ids)), 2),
        "network": uri,
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
