"""Certificates from the network, for a validator.

Owns: how one is asked for. Must not know: how it is verified, who needs it.
"""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.ndn.name import Name
from ndn_infer.security.certificate_fetch import FetchCertificate
from ndn_infer.transport.link.endpoint import Endpoint


def certificate_fetcher(endpoint: Endpoint) -> FetchCertificate:
    """Fetches over `endpoint`. A key name stands for its newest certificate: a cache's older copy will not do."""

    async def fetch(name: Name) -> bytes:
        newest = ndn.component_type(ndn.components(name)[-1]) != ndn.VERSION
        data, _ = await endpoint.express(name, can_be_prefix=newest, must_be_fresh=newest, lifetime_ms=1000)
        return data.wire

    return fetch
