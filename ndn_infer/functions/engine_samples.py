"""What an engine counts anyway, as samples of metrics; read when somebody asks.

Owns: which of these counters is which metric. Must not know: how samples are exposed.
"""

from __future__ import annotations

from collections.abc import Iterator

from ndn_infer.engine.stream import Counters
from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Sample


def engine_samples(model: str, counters: Counters) -> Iterator[Sample]:
    """Of the engine of one model. Its thread writes what is read here, a number at a time."""
    yield Sample(m.STEPS, (model,), counters.steps)
    yield Sample(m.STEP_STREAMS, (model,), counters.step_streams)
    yield Sample(m.STEP_TOKENS, (model,), counters.step_tokens)
    yield Sample(m.PREEMPTIONS, (model,), counters.preemptions)
    tokens = {
        "prefilled": counters.tokens_prefilled, "shared": counters.tokens_shared, "decoded": counters.tokens_decoded,
        "recomputed": counters.tokens_recomputed, "guessed": counters.tokens_guessed,
        "accepted": counters.tokens_accepted,
    }  # fmt: skip
    for what, value in tokens.items():
        yield Sample(m.ENGINE_TOKENS, (model, what), value)
    yield Sample(m.ENGINE_SECONDS, (model, "prefill"), counters.prefill_s)
    yield Sample(m.ENGINE_SECONDS, (model, "decode"), counters.decode_s)
    yield Sample(m.ENGINE_STREAMS, (model, "running"), counters.streams_active)
    yield Sample(m.ENGINE_STREAMS, (model, "waiting"), counters.waiting)
    used, free = counters.blocks_used, counters.blocks_free
    blocks = {"used": used, "free": free, "cached": counters.blocks_cached}
    for state, value in blocks.items():
        yield Sample(m.KV_BLOCKS, (model, state), value)
    yield Sample(m.KV_USAGE, (model,), used / max(used + free, 1))
