"""What a gateway serves: the network, asked in the domain of whoever asks.

Owns: which domain a tenant's requests are asked in. Must not know: HTTP, the form of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ndn_infer.gateway.service import Service
from ndn_infer.gateway.tenants import Tenant
from ndn_infer.gateway.uplink import Uplink


@dataclass(frozen=True, slots=True)
class Served:
    """`service` asks in the gateway's own domain; `label_of` gives the label of a domain's newest epoch, by the name
    that a key has. `uplink`: None where no network is, in tests."""

    service: Service
    label_of: Callable[[str], str]
    uplink: Uplink | None = None

    def service_of(self, tenant: Tenant) -> Service:
        """The domain's label is looked up when it is needed: keys are renewed meanwhile."""
        name = tenant.key.domain
        return self.service.of((lambda: self.label_of(name)) if name else None, tenant.spend)
