"""One question in virtual time: a consumer that joins, asks, reads and leaves, as `ndn-infer ask` does.

Owns: the consumer's process and its row. Must not know: worlds, producers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ndn_infer import ndn
from ndn_infer.client import Answer, Client
from ndn_infer.errors import NdnInferError
from ndn_infer.namespace import Role
from ndn_infer.ndn.name import Name
from ndn_infer.records import Sampling
from ndn_infer.testbed.virtual.machine import Application, VirtualNode
from ndn_infer.testbed.world import Ask, Asked, Progress

SAMPLED_AT: float = 0.8


@dataclass(slots=True)
class _Reading:
    """Times of one answer, by `now`."""

    now: Callable[[], float]
    began: float
    arrivals: list[float] = field(default_factory=list)

    def came(self) -> None:
        self.arrivals.append(self.now() - self.began)

    def row(self, node: str, answer: Answer | None, net: Name, error: str) -> Asked:
        row = Asked(node, self.began, total_s=self.now() - self.began, error=error)
        if answer is None:
            return row
        gaps = tuple(later - sooner for sooner, later in zip(self.arrivals, self.arrivals[1:], strict=False))
        return replace(
            row, ids=tuple(answer.ids), text=answer.text, ttft_s=self.arrivals[0] if self.arrivals else 0.0,
            gaps_s=gaps, continued=answer.continued, at=_decoder(answer, net),
        )  # fmt: skip


def _decoder(answer: Answer, net: Name) -> str:
    """The node that says so in the last event."""
    holders = answer.last.kv_holders if answer.last is not None else ()
    role = Role.parse(net, ndn.from_uri(holders[0])) if holders else None
    return role.node if role is not None else ""


async def read_answer(node: VirtualNode, what: Ask, progress: Progress | None, now: Callable[[], float]) -> Asked:
    """The row of one question. Cancelled, the consumer leaves as one that was interrupted."""
    application = node.application("ask")
    return await application.run(_consumer(node, application, what, progress or Progress(), now))


async def _consumer(
    node: VirtualNode, application: Application, what: Ask, progress: Progress, now: Callable[[], float]
) -> Asked:
    reading, answer, error = _Reading(now, now()), None, ""
    try:
        async with await node.join(application) as joined, Client(joined) as client:
            reading.began = now()
            conversation = client.conversation()
            sampling = Sampling(
                what.max_tokens, 0.0 if what.seed is None else SAMPLED_AT, seed=what.seed or 0, ignore_eos=what.whole
            )  # fmt: skip
            answer = await conversation.ask(joined.config.ask.model, what.prompt, sampling, system=what.system)
            await _read(answer, reading, progress)
    except NdnInferError as failed:
        error = str(failed) or failed.kind
    finally:
        progress.ended()
        application.kill()
    return reading.row(node.name, answer, node.keychain.net, error)


async def _read(answer: Answer, reading: _Reading, progress: Progress) -> None:
    async with answer:
        async for event in answer:
            if event.ids:
                reading.came()
                progress.came(len(answer.ids))
