"""The summary after an answer: names, sources, keys, times; for people and as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from ndn_infer import name as ndn
from ndn_infer.client import Client, Outcome
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.ledger import Use


def print_summary(outcome: Outcome, client: Client, uri: str) -> None:
    """To standard error, so that the answer alone can be piped on."""

    def line(text: str = "") -> None:
        print(text, file=sys.stderr)

    line()
    line(f"  names used (network {uri})")
    uses = sorted(client.ledger.uses(), key=lambda use: use.kind)
    width = max((len(use.kind) for use in uses), default=0)
    for use in uses:
        line(f"    {use.kind:{width}}  {use.uses:4d} x {use.source}")
        if use.example:
            line(f"    {'':{width}}         {shorten(use.example)}")
    if outcome.continued:
        line(f"  the answer broke off {outcome.continued} x and went on at another producer")
    if client.domain != PUBLIC.label:
        line(f"  private: question, answer and KV cache sealed in domain {client.domain}")
    line("  verified")
    for key in client.ledger.signers():
        line(f"    {shorten(key)}")
    if outcome.last is not None and outcome.last.kv is not None:
        for signed in outcome.last.kv.signers:
            line(f"    KV of {signed.blocks} blocks: {signed.identity}")
    bad = client.fetcher.bad_packets
    line(f"    all signatures and digests good{f'; {bad} bad packets refused' if bad else ''}")
    for cited in outcome.cited:
        line(f"  rests on {shorten(cited.name)}")
        line(f"    {cited.passage.source}: {cited.passage.title} (score {cited.score:.3f})")
    timing = outcome.timing
    line(
        f"  {len(outcome.prompt_ids)} prompt tokens, {len(outcome.ids)} answer tokens ({outcome.finish}); "
        f"first token {timing.first_token_s:.2f} s, {timing.tokens_per_s(len(outcome.ids)):.1f} tokens/s"
    )


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
        "domain": client.domain,
        "continued": outcome.continued,
        "kv_blocks": asdict(kv) if kv is not None else None,
        "cited": [
            {"name": item.name, "score": item.score, "source": item.passage.source, "title": item.passage.title,
             "signed_by": ndn.to_uri(item.signed_by.key_name)}
            for item in outcome.cited
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
    """A URI with its digests cut to 8 digits."""
    parts = []
    for part in uri.split("/"):
        label, separator, value = part.rpartition("=")
        hexadecimal = len(value) == 64 and all(digit in "0123456789abcdef" for digit in value)
        parts.append(f"{label}{separator}{value[:8]}..." if hexadecimal else part)
    return "/".join(parts)
