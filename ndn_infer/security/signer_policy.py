"""Whose KV is believed: of the signers that the trust schema allows, those that this node's configuration names.

Owns: the rule and its text form. The schema says which roles may publish KV of any model; it cannot say that the node
of another site, certified as it is, computes what it claims. That is a policy of each reader. Must not know: packets,
certificates, tensors. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName, ConfigError
from ndn_infer.ndn.name import Name

_RULE: Final = re.compile(r"(?:([0-9a-f]{8,64})=)?(/.*)")


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
def parse_signer_policy(text: str) -> SignerPolicy:
    """Option kv.trusted_signers: identities separated by spaces, each perhaps with "<model digest>=" before it.

    Raises ConfigError.
    """
    rules = []
    for item in text.split():
        match = _RULE.fullmatch(item)
        try:
            identity = ndn.from_uri(match[2]) if match else b""
        except BadName as error:
            raise ConfigError(f"kv.trusted_signers: {error}") from error
        if match is None or not identity:
            raise ConfigError(
                f"kv.trusted_signers: {item!r} is not an identity",
                hint='for example "/ndn-infer/local/home 3f2a91c0=/ndn-infer/local/lab/gpu1/prefill"',
            )
        rules.append((match[1] or "", identity))
    return SignerPolicy(rules)
