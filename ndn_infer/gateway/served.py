"""What a gateway serves: the network, asked in the domain of whoever asks.

Owns: which domain a tenant's requests are asked in. Must not know: HTTP, the form of keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from ndn_infer.client.guarding import DemandedPolicy
from ndn_infer.errors import NdnInferError
from ndn_infer.gateway.refusal import Refusal, bad
from ndn_infer.gateway.service import Service
from ndn_infer.gateway.tenants import Tenant
from ndn_infer.gateway.uplink import Uplink
from ndn_infer.security.domain_keys import MAX_NAME
from ndn_infer.security.domains import PUBLIC


@dataclass(frozen=True, slots=True)
class Served:
    """`service` asks in the gateway's own domain; `label_of` gives the label of a domain's newest epoch, by the name
    that a key has. `uplink`: None where no network is, in tests."""

    service: Service
    label_of: Callable[[str], str]
    uplink: Uplink | None = None
    policies: Callable[[str], Awaitable[DemandedPolicy]] | None = None
    """Finds the policy that a key names."""

    async def ruled(self, service: Service, tenant: Tenant) -> Service:
        """The same service, under the policy of the tenant's key, if it has one. Raises what `policies` raises."""
        if not tenant.key.policy:
            return service
        if self.policies is None:
            raise Refusal(503, "the policy of this key cannot be had", code="no_policy")
        return service.under(await self.policies(tenant.key.policy))

    def domain_of(self, tenant: Tenant, salt: object = None) -> str:
        """The name of the domain that a request is asked in; "" is the gateway's own. `salt`: its cache_salt. Requests
        of other salts share nothing, so a salt is the name of a tenant domain: only domains keep apart what producers
        and stores hold. Raises Refusal for one that this tenant may not ask in, or that is not here."""
        if salt is None or salt == tenant.key.domain:
            return tenant.key.domain
        if not isinstance(salt, str) or not salt or len(salt) > MAX_NAME:
            raise bad(f"cache_salt must be a text of 1 to {MAX_NAME} characters", "cache_salt")
        if salt != PUBLIC.label and (not tenant.owner or salt in tenant.key.salts):
            with suppress(NdnInferError):
                self.label_of(salt)
                return salt
        raise bad("cache_salt must name a tenant domain that this key may ask in: docs/gateway.md", "cache_salt")

    def service_of(self, tenant: Tenant, domain: str) -> Service:
        """Asks in this domain, as domain_of gives it. Its label is looked up when it is needed: keys are renewed
        meanwhile."""
        return self.service.of((lambda: self.label_of(domain)) if domain else None, tenant.spend, tenant.owner)
