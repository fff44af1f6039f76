"""Which domain a request's cache_salt stands for.

Owns: from salts and labels to the domains whose keys are on this machine. Must not know: vLLM, blocks.

No salt: the public domain. A salt that is the name of a tenant domain, or begins with one and a "/": that domain, in
its newest epoch. Any other salt: none; such a request is not shared.
"""

from __future__ import annotations

from ndn_infer.errors import NdnInferError
from ndn_infer.security.domain_store import DomainFile, DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC, Domain, find_epoch
from ndn_infer.vllm.naming import domain_name


class SaltDomains:
    def __init__(self, files: DomainStore) -> None:
        self._files = files
        self._newest: dict[str, tuple[DomainFile, Domain]] = {}

    def of_salt(self, salt: str) -> Domain | None:
        """None for a salt of no domain, or of a name that two domains have."""
        if not salt:
            return PUBLIC
        files = self._files.domains()
        for name in (salt, domain_name(salt)):
            found = [item for item in files if item.name == name]
            if len(found) == 1:
                return self._newest_of(found[0])
            if found:
                return None
        return None

    def of_label(self, label: str) -> Domain | None:
        """The domain that names speak of; None without its key."""
        if label == PUBLIC.label:
            return PUBLIC
        try:
            return find_epoch(self._files.tenants(), label)
        except NdnInferError:
            return None

    def _newest_of(self, item: DomainFile) -> Domain:
        known = self._newest.get(item.domain)
        if known is None or known[0] is not item:
            known = self._newest[item.domain] = (item, tenant_of(item).newest)
        return known[1]
