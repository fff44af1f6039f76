"""Who may command a forwarder, decided by certificate.

Owns: the rule. The operator's key may do everything; any other key of the network may register, withdraw and announce
routes below its own identity and below the prefixes granted to it. The trust schema says which keys may sign commands
at all. Must not know: the forwarder, faces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import KeyNotAllowed
from ndn_infer.namespace import operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Interest
from ndn_infer.security.validator import Validator

ROUTES: Final = "rib"


class CommandAuthority:
    """`grants` are (identity, prefix); what is granted to an identity is granted to all below it."""

    def __init__(self, validator: Validator, net: Name, grants: Iterable[tuple[Name, Name]]) -> None:
        self._validator = validator
        self._operator = operator_identity(net)
        self._grants = tuple(grants)

    async def check(self, interest: Interest, module: str, prefix: Name | None) -> None:
        """Return if whoever signed this command may give it. Raises TrustError (one line) if not."""
        identity = (await self._validator.validate_interest(interest)).identity
        if identity == self._operator:
            return
        if module != ROUTES or prefix is None:
            raise KeyNotAllowed(
                f"{ndn.to_uri(identity)} may register routes, not command '{module}'",
                hint="sign with the operator's key",
            )
        if not any(prefix.startswith(allowed) for allowed in self._registrable(identity)):
            raise KeyNotAllowed(
                f"{ndn.to_uri(identity)} may not register {ndn.to_uri(prefix)}",
                hint="its own identity and prefixes in forwarder.grants are allowed",
            )

    def _registrable(self, identity: Name) -> Iterable[Name]:
        yield identity
        yield from (prefix for holder, prefix in self._grants if identity.startswith(holder))
