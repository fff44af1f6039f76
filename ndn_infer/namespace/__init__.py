"""The namespace: every kind of name of an inference network, as build and parse pairs.

Owns: which components a name has, in which order, what they mean. No other module joins name components of ours.
Must not know: packets, who may sign what (schemas/ndn-infer.lvs), where anything is (a name says what, a forwarding
hint says where). `docs/namespace.md` is generated from this module and a test compares them.

All names live below `<net>`, the identity of the trust anchor. What lasts is an object: its base name is one of the
kinds below, its packets are `<base>/v=<version>/seg=<n>`, discovered through `<base>/32=metadata` (RDR).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ndn_infer import ndn
from ndn_infer.namespace.grammar import RESERVED_FUNCTIONS as RESERVED_FUNCTIONS
from ndn_infer.namespace.grammar import RESERVED_SITES as RESERVED_SITES
from ndn_infer.namespace.grammar import Kind as Kind
from ndn_infer.namespace.grammar import texts_of
from ndn_infer.namespace.kinds import DOMAIN as DOMAIN
from ndn_infer.namespace.kinds import KINDS as KINDS
from ndn_infer.namespace.kinds import LOG as LOG
from ndn_infer.namespace.kinds import REPO as REPO
from ndn_infer.namespace.kinds import Activation as Activation
from ndn_infer.namespace.kinds import AnswerRecord as AnswerRecord
from ndn_infer.namespace.kinds import Call as Call
from ndn_infer.namespace.kinds import CallClass as CallClass
from ndn_infer.namespace.kinds import CatalogRecord as CatalogRecord
from ndn_infer.namespace.kinds import DomainKey as DomainKey
from ndn_infer.namespace.kinds import EncryptionKey as EncryptionKey
from ndn_infer.namespace.kinds import Evidence as Evidence
from ndn_infer.namespace.kinds import Input as Input
from ndn_infer.namespace.kinds import Instance as Instance
from ndn_infer.namespace.kinds import InstanceQuestion as InstanceQuestion
from ndn_infer.namespace.kinds import KvBlock as KvBlock
from ndn_infer.namespace.kinds import LogCheckpoint as LogCheckpoint
from ndn_infer.namespace.kinds import LogEntry as LogEntry
from ndn_infer.namespace.kinds import LogTile as LogTile
from ndn_infer.namespace.kinds import Machine as Machine
from ndn_infer.namespace.kinds import Passage as Passage
from ndn_infer.namespace.kinds import PolicyObject as PolicyObject
from ndn_infer.namespace.kinds import Question as Question
from ndn_infer.namespace.kinds import RequestObject as RequestObject
from ndn_infer.namespace.kinds import Result as Result
from ndn_infer.namespace.kinds import Role as Role
from ndn_infer.namespace.kinds import SavedChat as SavedChat
from ndn_infer.namespace.kinds import Sync as Sync
from ndn_infer.namespace.kinds import TokenBlock as TokenBlock
from ndn_infer.namespace.kinds import WitnessedLog as WitnessedLog
from ndn_infer.ndn.name import Name

_BY_LENGTH: Final[dict[int, tuple[type[Kind], ...]]] = {
    length: tuple(kind for kind in KINDS if kind.pattern.count("/") == length)
    for length in {kind.pattern.count("/") for kind in KINDS}
}
"""In their order, by the number of components below the network's name."""


@lru_cache(maxsize=1024)
def parse_base(net: Name, base: Name) -> Kind | None:
    """The kind of a base name (without version and segment); None for a name of no kind. Several checks of one packet
    ask for the same name."""
    texts = texts_of(net, base)
    found = (cls._match(texts, exact=True) for cls in _BY_LENGTH.get(len(texts), ()))
    return next((kind for kind in found if kind is not None), None)


def function_prefix(net: Name, subject_kind: str, subject: str, function: str) -> Name:
    """What a producer of `function` registers: all its calls lie below."""
    return net + b"".join(map(ndn.generic, (subject_kind, subject, function)))


def results_prefix(net: Name, subject_kind: str, subject: str, function: str) -> Name:
    """What a producer registers for the results of `function`."""
    return net + b"".join(map(ndn.generic, (subject_kind, subject, "result", function)))


def blocks_prefix(net: Name, model: str, what: str) -> Name:
    """What a holder of token blocks (`tokens`) or KV blocks (`kv`) of a model registers."""
    return net + b"".join(map(ndn.generic, ("model", model, what)))


def activations_prefix(net: Name, model: str, codec: str, layer: int) -> Name:
    """What a stage registers for its output, which layer `layer` takes."""
    return net + b"".join(map(ndn.generic, ("model", model, "act", "public", codec, str(layer))))


def passages_prefix(net: Name, corpus: str) -> Name:
    return net + b"".join(map(ndn.generic, ("corpus", corpus, "passage")))


def operator_identity(net: Name) -> Name:
    """The identity whose key signs catalogue records."""
    return net + ndn.generic("operator")


def certificates_prefix(identity: Name) -> Name:
    """Below it are the certificates of an identity."""
    return identity + ndn.generic("KEY")


def evidence_prefix(identity: Name) -> Name:
    """Below it are the statements that an identity vouches for."""
    return identity + ndn.generic("evidence")


def asks_prefix(prefix: Name) -> Name:
    """Below it are the questions to an identity, or to one instance of it."""
    return prefix + ndn.generic("ask")


def is_question(net: Name, name: Name) -> bool:
    """Whether `name` lies below `asks_prefix` of an identity of `net`, or of one instance of it."""
    parts = ndn.components(name[len(net) :]) if name.startswith(net) else []
    ask = ndn.generic("ask")
    return ask in parts[3:4] or (ndn.generic("instance") in parts[3:4] and ask in parts[5:6])


@dataclass(frozen=True, slots=True)
class Explained:
    """`kind` is None for a name of no kind; `rest` is what follows the base name, one line each."""

    kind: Kind | None
    rest: tuple[str, ...]


_LONGEST_FIRST: Final = tuple(sorted(KINDS, key=lambda kind: -kind.pattern.count("/")))


def classify(net: Name, name: Name) -> Explained:
    """Which kind a full name is of, and what its trailing components say. Never raises on a well-formed name."""
    texts = texts_of(net, name)
    below = ndn.components(name[len(net) :]) if texts else []
    for cls in _LONGEST_FIRST:
        found = cls.among(texts, below)
        if found is None:
            continue
        kind, tail = found
        rest = _explain_tail(tail)
        if rest is not None:
            return Explained(kind, rest)
    return Explained(None, ())


def kind_label(net: Name, name: Name) -> str:
    """The kind of a full name as one word: kv_block, call, result; certificate, or other."""
    if ndn.generic("KEY") in ndn.components(name):
        return "certificate"
    kind = classify(net, name).kind
    return label_of(kind.title) if kind is not None else "other"


def label_of(words: str) -> str:
    """Words as one word of lower case."""
    return words.lower().replace(" ", "_")


def _explain_tail(tail: list[ndn.Component]) -> tuple[str, ...] | None:
    """One line a component, or None when one of them has no business there."""
    if tail and tail[0] == ndn.generic("KEY"):
        labels = ("keys of this identity", "key id", "issuer", "version of the certificate")
        return tuple(f"{ndn.component_to_uri(part)}: {label}" for part, label in zip(tail, labels, strict=False))
    rest = [_explain_component(component) for component in tail]
    return tuple(rest) if all(rest) else None


def _explain_component(component: ndn.Component) -> str:
    text = ndn.component_to_uri(component)
    match ndn.component_type(component):
        case ndn.VERSION:
            return f"{text}: version (microseconds of the Unix epoch: one run of one producer)"
        case ndn.SEGMENT:
            return f"{text}: segment"
        case ndn.PARAMETERS_DIGEST:
            return f"{text}: SHA-256 of the request carried in the Interest"
        case ndn.KEYWORD if component == ndn.METADATA:
            return f"{text}: discovery: the newest version and its manifest"
        case ndn.KEYWORD if ndn.component_value(component) == b"manifest":
            return f"{text}: second level of the manifest"
        case ndn.GENERIC:
            return ""
    return f"{text}: component of type {ndn.component_type(component)}"
