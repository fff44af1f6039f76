"""What a conversation and its answers have in common: how they call, what is counted, what the newest answer left.

Owns: this state. Must not know: what is done with it (conversation.py, answer.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ndn_infer.client.answer_watch import NamesWatch
from ndn_infer.client.engine_choice import EngineChoice
from ndn_infer.client.guarding import DemandedPolicy
from ndn_infer.client.receipt_journal import ReceiptJournal
from ndn_infer.metrics.meters import Meters
from ndn_infer.node.node import Node
from ndn_infer.records import TokenizeRequest
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Prompted:
    """What a prompt was made of: the request to tokenize it, as it was sent, and the answer that gave its ids."""

    request: TokenizeRequest
    ids: tuple[int, ...]
    answered: Answered


class AskingState:
    """One conversation's."""

    def __init__(
        self, node: Node, caller: Callable[[Fetcher, Ledger], Caller], engines: EngineChoice, domain: str
    ) -> None:
        """`caller` makes what this conversation calls with. With the label of a tenant domain as `domain` every prompt
        is asked privately."""
        self.ledger = Ledger(node.net)
        self.fetcher = Fetcher(node.endpoint, node.validator, node.config.fetch, ledger=self.ledger)
        self.evidence = node.config.ask.records == "on"
        """Whether answers are to have records beside them."""
        self.caller = caller(self.fetcher, self.ledger)
        self.domain = domain
        self.engines = engines
        self.turn: tuple[tuple[int, ...], tuple[str, ...]] = ((), ())
        """The newest answer: its prompt's ids, and who holds their KV."""
        self.prompted: Prompted | None = None
        """The newest prompt that was made of text."""
        self.meters: Meters | None = None
        """Where answers are counted, if anywhere."""
        self.receipts: ReceiptJournal | None = None
        """Where receipts of answers are kept, if anywhere."""
        self.policy: DemandedPolicy | None = None
        """What prompts and answers must keep to, if anything."""
        self.names = NamesWatch()
        self._node = node
