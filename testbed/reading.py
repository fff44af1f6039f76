"""One question, asked and read by the client library as an application does: when its tokens came, and what went wrong.

Owns: the row (world.PromptOutcome) of a question. Must not know: who tells it to ask, what kind of world it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer.client import Answer, Client
from ndn_infer.errors import CallError, NdnInferError
from ndn_infer.namespace import Role
from ndn_infer.ndn.name import Name
from ndn_infer.records import Sampling
from ndn_infer.testbed.world import Prompt, PromptOutcome

SAMPLED_AT: Final = 0.8
"""Temperature of questions with a seed."""


def sampling_of(what: Prompt) -> Sampling:
    temperature = 0.0 if what.seed is None else SAMPLED_AT
    return Sampling(what.max_tokens, temperature, seed=what.seed or 0, ignore_eos=what.whole)


@dataclass(slots=True)
class Reading:
    """A question at `node` of the network `net`; times by `now`. `came` is told how many tokens there are, and which
    node decodes."""

    node: str
    net: Name
    now: Callable[[], float]
    came: Callable[[int, str], None]
    began: float = 0.0
    _arrivals: list[float] = field(default_factory=list)
    _answer: Answer | None = None
    _error: str = ""

    async def read(self, client: Client, model: str, what: Prompt) -> None:
        """Time begins now. Never raises for what the network does."""
        self.began = self.now()
        conversation = client.conversation()
        try:
            self._answer = await conversation.ask(model, what.prompt, sampling_of(what), system=what.system)
            async with self._answer as answer:
                async for event in answer:
                    if event.ids:
                        self._arrivals.append(self.now() - self.began)
                        self.came(len(answer.ids), self._decoder(answer))
        except NdnInferError as error:
            self.failed(error)
        else:
            self._error = "" if self._answer.finish else "it ended in the middle"

    def failed(self, error: NdnInferError) -> None:
        """The producer's code where it gave one, else the kind of error, and what it says."""
        self._error = f"{error.code if isinstance(error, CallError) else error.kind}: {error}"

    def row(self) -> PromptOutcome:
        row = PromptOutcome(self.node, self.began, total_s=self.now() - self.began, error=self._error)
        if self._answer is None:
            return row
        times, answer = self._arrivals, self._answer
        return replace(
            row, ids=tuple(answer.ids), text=answer.text, ttft_s=times[0] if times else 0.0,
            gaps_s=tuple(later - sooner for sooner, later in zip(times, times[1:], strict=False)),
            total_s=times[-1] if times and not self._error else row.total_s,
            continued=answer.continued, at=self._decoder(answer),
        )  # fmt: skip

    def _decoder(self, answer: Answer) -> str:
        """The node whose key signed the newest stream."""
        role = Role.parse(self.net, answer.by) if answer.by else None
        return role.node if role is not None else ""
