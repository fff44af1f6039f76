"""Where to ask for a name to which no route leads: the roles of nodes that are known by configuration.

Owns: which identities may have what a name says, the likeliest first. Must not know: how they are asked, whether they
are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.namespace import (
    REPO,
    Activation,
    Call,
    Kind,
    KvBlock,
    Machine,
    Passage,
    Result,
    Role,
    TokenBlock,
    is_question,
    parse_base,
)
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import machine_identity, net_name
from ndn_infer.transport.link.detour import Detour

SERVING: Final = ("tokenize", "embed", "prefill", "decode", "stage", "rag", "cite", REPO)
"""Roles that serve something, in the order in which they are asked where a name says nothing."""
_ANSWERS: Final = {"generate": "decode", "detokenize": "tokenize", "lookup": "rag"}
"""Which role answers a function of another name."""
_HOLDERS: Final[dict[type[Kind], tuple[str, ...]]] = {
    TokenBlock: ("tokenize", "decode", "prefill"),
    KvBlock: ("prefill", "decode", "vllm"),
    Activation: ("stage",),
    Passage: ("rag",),
}


def detour(config: Config) -> Detour:
    """For an application of this machine: it asks the roles of this machine, then those of network.known."""
    net = net_name(config)
    known = dict.fromkeys((machine_identity(config), *map(ndn.from_uri, config.network.known)))
    machines = [machine for machine in (Machine.parse(net, name) for name in known) if machine is not None]

    def whereabouts(name: Name) -> Iterator[Name]:
        if not name.startswith(net):
            return
        roles = likely_roles(net, name)
        for machine in machines:
            for role in roles:
                yield Role(machine.site, machine.node, role).to_name(net)

    # a question to one identity is answered by nobody else
    beginning = len(ndn.components(net)) + 3
    return Detour(whereabouts, beginning=beginning, one_place=lambda name: is_question(net, name))


def likely_roles(net: Name, name: Name) -> tuple[str, ...]:
    """Roles that may have what `name`, that of a packet, says; all of SERVING, the likeliest first."""
    first: tuple[str, ...] = ()
    kind = _kind_of(net, name)
    if isinstance(kind, Call | Result):
        first = (_ANSWERS.get(kind.function, "stage" if "." in kind.function else kind.function),)
    elif kind is not None:
        first = _HOLDERS.get(type(kind), ())
    return tuple(dict.fromkeys((*first, *SERVING)))


def _kind_of(net: Name, name: Name) -> Kind | None:
    """What the longest prefix of `name` that is of any kind names."""
    ends = ndn.prefix_ends(name)
    found = (parse_base(net, name[:end]) for end in reversed(ends[len(ndn.components(net)) + 1 :]))
    return next((kind for kind in found if kind is not None), None)
