"""What a repo is made of.

Owns: nothing but the names of the parts. Must not know: what they do for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndn_infer.repo.certificate_shelf import CertificateShelf
from ndn_infer.repo.pin_ledger import PinLedger
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validator
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server


@dataclass(frozen=True, slots=True)
class RepoParts:
    """What a repo works with. `store` is what `server` answers from."""

    endpoint: Endpoint
    server: Server
    store: TieredStore
    fetcher: Fetcher
    validator: Validator
    registrar: Registrar
    shelf: CertificateShelf
    signer: Signer
    pins: PinLedger
