"""What one program may see of tenant domains, and with which key it asks and answers there.

Owns: finding the epoch of a label, among keys that may change while the program runs, and making and opening the signed
requests of private calls. Must not know: where keys are kept (domain_store.py), sockets, what is asked.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ndn_infer import clock
from ndn_infer.errors import MissingKey
from ndn_infer.ndn.name import Name
from ndn_infer.security.askers import Askers
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import SALT_BYTES, DomainEpoch, SealedRequest, TenantDomain, find_epoch
from ndn_infer.security.validator import Validator


@dataclass(slots=True)
class Access:
    """`load` reads the domains whose keys are here; `signer` is the role that asks; `validator` judges who asks us
    (`askers`)."""

    load: Callable[[], Sequence[TenantDomain]]
    signer: Signer
    validator: Validator
    renew: Callable[[str], Awaitable[bool]] | None = None
    """Looks for newer epochs of the domain of this id; whether there are."""
    askers: Askers = field(init=False)
    _domains: Sequence[TenantDomain] = ()

    def __post_init__(self) -> None:
        self.askers = Askers(self.validator)

    def epoch(self, label: str) -> DomainEpoch:
        """Raises MissingKey for a label of no domain, or no epoch, that we have a key of. One that is not known makes
        us read the keys again: ask with what only roles of this network can send."""
        try:
            return find_epoch(self._domains, label)
        except MissingKey:
            self._domains = self.load()
            return find_epoch(self._domains, label)

    # ------------------------------------------------------------ asking

    def seal_request(self, epoch: DomainEpoch, function: Name, request: bytes) -> bytes:
        """What the envelope of a private call holds. Never twice the same."""
        return epoch.seal_request(function, self.signer.identity, request, os.urandom(SALT_BYTES))

    def sign(self, name: Name, parameters: bytes, *, hints: tuple[Name, ...], lifetime_ms: int) -> tuple[bytes, Name]:
        """A signed Interest and its full name. Every try is signed anew: nobody answers one twice."""
        return self.signer.sign_interest(
            name, parameters, nonce=os.urandom(4), signature_nonce=os.urandom(8), time_ms=clock.wall_ms(),
            must_be_fresh=True, hints=hints, lifetime_ms=lifetime_ms,
        )  # fmt: skip

    # ------------------------------------------------------------ answering

    def open_request(self, function: Name, caller: Name, sealed: SealedRequest) -> tuple[DomainEpoch, bytes]:
        """The epoch and the request of a caller whose signature was verified. Raises MissingKey, SealBroken."""
        epoch = self.epoch(sealed.domain)
        return epoch, epoch.open_request(function, caller, sealed)

    async def look_for(self, label: str) -> None:
        """Look for the key of an epoch that is new to us, where a verified caller asks in it."""
        if self.renew is not None:
            await self.renew(label.rpartition(".")[0])
