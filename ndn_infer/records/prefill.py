"""The call with which KV of a prompt is computed elsewhere: its request and its answer.

Owns: these two records. Must not know: who makes the call (kv/load.py), who answers it (functions/prefill.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records import MAX_SIGNERS, KvSigner, Reply, Request
from ndn_infer.records.bounds import Amount, AtMost, Count, Digest, Label

MAX_BLOCKS: Final = 8192
"""KV blocks of one prefill."""


@dataclass(frozen=True, slots=True)
class PrefillRequest(Request):
    """Compute KV for a chain of token blocks. `blocks` are all chain values (hex) from the first; KV of the first
    `have` exists by name already. `codec` (the form of blocks, and the part of the engine class that they follow) must
    be the producer's own."""

    blocks: Annotated[tuple[Digest, ...], AtMost(MAX_BLOCKS)] = ()
    have: Count = 0
    block_tokens: Count = 0
    codec: Label = ""


@dataclass(frozen=True, slots=True)
class PrefillReport(Reply):
    """Result of prefill: how many blocks there are now, of which `computed` here and now; the others were at hand or
    found by name. `signers`: of those that this producer did not compute, who signed how many. What was computed rests
    on these."""

    blocks: Count
    computed: Count
    prefill_ms: Amount = 0.0
    signers: Annotated[tuple[KvSigner, ...], AtMost(MAX_SIGNERS)] = ()
