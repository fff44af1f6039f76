"""A consumer on a joined node: as many conversations as it likes, over one connection.

    async with await Node.join() as node, Client(node) as client:
        answer = await client.conversation().ask("smollm2-135m-instruct", "What is the capital of France?")
        async for event in answer:
            print(event.text, end="")

Owns: what conversations share: the caller's key, where large requests are published, what producers offer. Must not
know: what is asked.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from ndn_infer import ndn
from ndn_infer.client.conversation import Conversation
from ndn_infer.client.engine_choice import EngineChoice
from ndn_infer.client.guarding import DemandedPolicy
from ndn_infer.client.policies import find_policy
from ndn_infer.client.receipt_journal import ReceiptJournal
from ndn_infer.errors import MissingKey
from ndn_infer.guard.policy_form import decode as decode_policy
from ndn_infer.metrics.meters import Meters
from ndn_infer.namespace import PolicyObject
from ndn_infer.ndn.name import Name
from ndn_infer.node.faults import FaultFile
from ndn_infer.node.node import Node
from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.offers.live.faults import Faults
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.offers.live.publishing import OfferGroup
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.inputs import Inputs, PublishedInput
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.ledger import Ledger
from ndn_infer.transport.objects.serve import Server
from ndn_infer.wire.manifest import ObjectPackets

INPUT_STORE_BYTES: Final = 64 << 20


class Client:
    """Asks a network. Closed before its node; closing withdraws what it published."""

    def __init__(self, node: Node) -> None:
        """The caller's own key is that of the role `user` of this machine, if it is here: it signs private calls, and
        inputs that do not fit an Interest."""
        self._node = node
        self._user = _user(node)
        self._access = None if self._user is None else node.access(self._user)
        self.offers = Offers(Where.of(node.net, node.endpoint, node.validator, node.config))
        """What producers offer, as far as this client knows."""
        self._group: OfferGroup | None = None
        if node.config.offers.sync == "on":
            self.offers.before_first = self._observe
        self.faults = FaultFile(node.config)
        """Whom this client does not ask."""
        faults = Faults(self.faults, [*map(ndn.from_uri, node.config.audit.trusted)])
        self._chooser = OfferChooser(self.offers, faults) if node.config.offers.choose == "soonest" else None
        may_come = self.offers.may_come if self._chooser is not None else lambda model, engine, lost: False
        self._engines = EngineChoice(node.config, self.offers.engines, may_come=may_come)
        self.meters: Meters | None = None
        """Where answers are counted, if anywhere."""
        self.receipts = ReceiptJournal.of(node.config)
        self.policy: DemandedPolicy | None = None
        """What new conversations must keep to; see `demand`."""
        self._inputs: Inputs | None = None
        self._registrar: Registrar | None = None

    def conversation(self, domain: str = PUBLIC.label) -> Conversation:
        """A new one, with a ledger of its own. `domain`: the label of a tenant domain, to ask privately."""
        made = Conversation(self._node, self._caller, self._engines, domain)
        made.meters, made.receipts, made.policy = self.meters, self.receipts, self.policy
        return made

    def _caller(self, fetcher: Fetcher, ledger: Ledger) -> Caller:
        return self._node.caller(
            fetcher, inputs=self._published, access=self._access, ledger=ledger, chooser=self._chooser
        )

    async def demand(self, text: str) -> DemandedPolicy:
        """The policy of this file, alias or digest, from now on demanded of every new conversation; guards can fetch it
        here. Raises UsageError, BadRecord for one that is none, NetworkError, TrustError, MissingKey."""
        self.policy = await self.policy_of(text)
        return self.policy

    async def policy_of(self, text: str) -> DemandedPolicy:
        """As `demand`, and demands nothing."""
        wire = await find_policy(text, self._node)
        policy, inputs = decode_policy(wire), self._published()
        if inputs is None:
            raise MissingKey("this machine has no key of the role 'user', with which guards are given the policy")
        lent = await inputs.lend(PolicyObject(policy.digest).to_name(self._node.net), wire)
        return DemandedPolicy(policy, wire, lent.hint)

    def inputs(self) -> Inputs:
        """Where what is too large for an Interest is published. Raises MissingKey."""
        inputs = self._published()
        if inputs is None:
            raise MissingKey("this machine has no key of the role 'user', which would sign it")
        return inputs

    async def publish(self, base: Name, content: bytes, *, freshness_ms: int) -> PublishedInput:
        """Publish an object below the user's own identity, for as long as this client is open. Raises MissingKey,
        RegistrationRefused, Timeout."""
        inputs = self.inputs()
        packets = await inputs.publish_as(base, content, freshness_ms=freshness_ms)
        return PublishedInput(ndn.to_uri(packets.manifest.name), ndn.to_uri(inputs.instance))

    async def serve(self, prefix: Name, packets: ObjectPackets) -> None:
        """Answer with an object of the user's that is signed already, below `prefix`, for as long as this client is
        open. Raises MissingKey, RegistrationRefused, Timeout."""
        inputs = self._published()
        if inputs is None:
            raise MissingKey("this machine has no key of the role 'user', below whose name it lies")
        await inputs.serve(prefix, packets)

    def own(self, base: Name) -> ObjectPackets | None:
        """As Inputs.own."""
        return self._inputs.own(base) if self._inputs is not None else None

    async def close(self) -> None:
        await self.offers.close()
        if self._group is not None:
            await self._group.close()
        if self._registrar is not None:
            await self._registrar.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self.close()

    async def _observe(self) -> None:
        """Hear what the group of offers says, and say nothing there."""
        self._group = OfferGroup(self.offers, registrar=self._node.registrar)
        await self._group.open()

    def _published(self) -> Inputs | None:
        """Where requests too large for an Interest are published: below our own identity, if we have a key."""
        if self._inputs is None and self._user is not None:
            server = Server(self._node.endpoint, ObjectStore(INPUT_STORE_BYTES))
            refresh_s = self._node.config.producer.refresh_s
            self._registrar = Registrar(self._node.endpoint, self._user, refresh_s=refresh_s)
            self._inputs = Inputs(
                self._node.net, server, self._user, registrar=self._registrar,
                certificates=self._node.keychain.certificates,
            )  # fmt: skip
        return self._inputs


def _user(node: Node) -> Signer | None:
    try:
        return node.signer_as("user")
    except MissingKey:
        return None
