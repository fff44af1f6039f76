"""Whose KV is believed: of the signers that the trust schema allows, those that this node's configuration names.

Owns: the rule. The schema says which roles may publish KV of any model; it cannot say that the node
of another site, certified as it is, computes what it claims. That is a policy of each reader. Must not know: packets,
certificates, tensors. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ndn_infer.config.values import trusted_signer
from ndn_infer.ndn.name import Name


class SignerPolicy:
    """`rules` are (model, identity): the model's digest or its first digits, "" for every model; an identity stands for
    itself and all below it (a site, a node, a role). A model with rules of its own is subject to these alone; one
    without any, and no rule for every model, is believed from whomever the schema allows."""

    def __init__(self, rules: Sequence[tuple[str, Name]] = ()) -> None:
        self._rules = tuple(rules)

    def believes(self, model: str, signer: Name) -> bool:
        """Whether a block of `model` (digest) that `signer` (identity) signed is used."""
        own = [identity for digest, identity in self._rules if digest and model.startswith(digest)]
        allowed = own or [identity for digest, identity in self._rules if not digest]
        return not allowed or signer.startswith(tuple(allowed))


@lru_cache(16)
def signer_policy(items: tuple[str, ...]) -> SignerPolicy:
    """What option kv.trusted_signers says."""
    return SignerPolicy(tuple(map(trusted_signer, items)))
