"""Identities of an inference network: which names may own keys, and what such a name stands for.

Owns: the five kinds of identities below `<net>` and their words. Must not know: keys, certificates, the trust schema.
An identity is a name of namespace.py (Machine, Role, operator) or the net or a site; anything else owns no keys here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadName
from ndn_infer.namespace import Machine, Role, operator_identity
from ndn_infer.ndn.name import Name

KEY: Final = ndn.generic("KEY")


class IdentityKind(StrEnum):
    ANCHOR = "trust anchor"
    OPERATOR = "operator"
    SITE = "site"
    NODE = "node"
    ROLE = "role"


@dataclass(frozen=True, slots=True)
class Identity:
    """What an identity's name says. Labels that its kind does not have are ""."""

    kind: IdentityKind
    site: str = ""
    node: str = ""
    role: str = ""

    def words(self) -> str:
        """For messages: "role decode of node n1, site home"."""
        match self.kind:
            case IdentityKind.SITE:
                return f"site {self.site}"
            case IdentityKind.NODE:
                return f"node {self.node}, site {self.site}"
            case IdentityKind.ROLE:
                return f"role {self.role} of node {self.node}, site {self.site}"
        return f"the {self.kind.value}"


def parse_identity(net: Name, identity: Name) -> Identity | None:
    """What `identity` stands for in the network `net`, or None when it is no identity of it."""
    if identity == net:
        return Identity(IdentityKind.ANCHOR)
    if identity == operator_identity(net):
        return Identity(IdentityKind.OPERATOR)
    if not identity.startswith(net) or KEY in ndn.components(identity[len(net) :]):
        return None
    node = Machine.parse(net, identity)
    if node is not None:
        return Identity(IdentityKind.NODE, node.site, node.node)
    role = Role.parse(net, identity)
    if role is not None:
        return Identity(IdentityKind.ROLE, role.site, role.node, role.role)
    # A site: the first component of a node's name, alone.
    as_node = Machine.parse(net, identity + ndn.generic("n"))
    return Identity(IdentityKind.SITE, as_node.site) if as_node is not None else None


def require_identity(net: Name, identity: Name) -> Identity:
    """Like `parse_identity`. Raises BadName instead of returning None."""
    found = parse_identity(net, identity)
    if found is None:
        raise BadName(
            f"{ndn.to_uri(identity)} is not an identity of {ndn.to_uri(net)}",
            hint="identities are <net>, and below it operator, <site>, <site>/<node> and <site>/<node>/<role>",
        )
    return found
