"""The namespace: every kind of name of an inference network, as build and parse pairs.

Owns: which components a name has, in which order, what they mean. No other module joins name components of ours.
Must not know: packets, who may sign what (schemas/ndn-infer.lvs), where anything is (a name says what, a forwarding
hint says where). `docs/namespace.md` is generated from this module and a test compares them.

All names live below `<net>`, the identity of the trust anchor. What lasts is an object: its base name is one of the
kinds below, its packets are `<base>/v=<version>/seg=<n>`, discovered through `<base>/32=metadata` (RDR).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from ndn_infer import ndn
from ndn_infer.errors import BadName
from ndn_infer.namespace.grammar import RESERVED_FUNCTIONS as RESERVED_FUNCTIONS
from ndn_infer.namespace.grammar import RESERVED_SITES as RESERVED_SITES
from ndn_infer.namespace.grammar import Kind as Kind
from ndn_infer.namespace.grammar import texts_of
from ndn_infer.ndn.name import Name

DOMAIN: Final = "domain"
"""The role that owns tenant domains."""

REPO: Final = "repo"
"""The role of a repo, which keeps objects of others."""


class CallClass(StrEnum):
    """Whether a call's answer may be shared: the request is then unsigned and its answer depends on it alone."""

    SHARED = "shared"
    PRIVATE = "private"


_SAMPLE: Final = "0123456789abcdef" * 4
_PROMPTS: Final = "bf16.bf16.llama-torch-3.grouped.avx512"
"""Of an engine class, in names of KV."""


@dataclass(frozen=True, slots=True)
class Machine(Kind):
    site: str
    node: str
    title: ClassVar[str] = "node"
    pattern: ClassVar[str] = "/<site>/<node>"
    meaning: ClassVar[str] = "identity of a machine; its keys and those of its producers lie below"
    example: ClassVar[tuple[str, ...]] = ("home", "n1")


@dataclass(frozen=True, slots=True)
class Role(Kind):
    site: str
    node: str
    role: str
    title: ClassVar[str] = "role"
    pattern: ClassVar[str] = "/<site>/<node>/<role>"
    meaning: ClassVar[str] = "identity of one producer on a node: what it may sign follows from <role>; routable hint"
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "decode")


@dataclass(frozen=True, slots=True)
class Instance(Kind):
    site: str
    node: str
    role: str
    instance: str
    title: ClassVar[str] = "instance"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/instance/<instance>"
    meaning: ClassVar[str] = "one running process of an identity, of which there may be several: a routable hint to it"
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "decode", "0123456789abcdef")

    @classmethod
    def of(cls, net: Name, identity: Name, instance: str) -> Name:
        """The name of a process of this role identity. Raises BadName."""
        role = Role.parse(net, identity)
        if role is None:
            raise BadName(f"{ndn.to_uri(identity)} is not a role of this network")
        return cls(role.site, role.node, role.role, instance).to_name(net)


@dataclass(frozen=True, slots=True)
class Question(Kind):
    site: str
    node: str
    role: str
    topic: str
    title: ClassVar[str] = "question"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/ask/<topic>"
    meaning: ClassVar[str] = (
        "asks one identity about itself (status, holds, a repo's commands): a record in, a signed record out"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "decode", "status")


@dataclass(frozen=True, slots=True)
class InstanceQuestion(Kind):
    site: str
    node: str
    role: str
    instance: str
    topic: str
    title: ClassVar[str] = "question to an instance"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/instance/<instance>/ask/<topic>"
    meaning: ClassVar[str] = "the same to one process, where several have one identity"
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "decode", "0123456789abcdef", "status")


@dataclass(frozen=True, slots=True)
class Input(Kind):
    site: str
    node: str
    role: str
    instance: str
    content: str
    title: ClassVar[str] = "input"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/instance/<instance>/input/<content>"
    meaning: ClassVar[str] = (
        "a canonical request too large for an Interest, published by the caller and pulled by the producer"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "user", "0123456789abcdef", _SAMPLE)


@dataclass(frozen=True, slots=True)
class SavedChat(Kind):
    site: str
    node: str
    role: str
    domain: str
    chat: str
    title: ClassVar[str] = "saved conversation"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/chat/<domain>/<chat>"
    meaning: ClassVar[str] = (
        "a conversation that its owner saved, to go on with it elsewhere; sealed where <domain> is a tenant domain"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "user", "public", "holiday")


@dataclass(frozen=True, slots=True)
class Evidence(Kind):
    site: str
    node: str
    role: str
    domain: str
    topic: str
    content: str
    title: ClassVar[str] = "evidence"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/evidence/<domain>/<topic>/<content>"
    meaning: ClassVar[str] = (
        "a signed statement that names its inputs, which this identity vouches for (<topic>: context, verdict, "
        "suite, score); <content> is the SHA-256 of its clear bytes; sealed where <domain> is a tenant domain"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "user", "public", "context", _SAMPLE)


@dataclass(frozen=True, slots=True)
class EncryptionKey(Kind):
    site: str
    node: str
    role: str
    lasting: ClassVar[bool] = True
    title: ClassVar[str] = "encryption key"
    pattern: ClassVar[str] = "/<site>/<node>/<role>/encryption"
    meaning: ClassVar[str] = "the public key with which others encrypt to this identity; its signing key vouches for it"
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "decode")


@dataclass(frozen=True, slots=True)
class CatalogRecord(Kind):
    record: str
    id: str
    lasting: ClassVar[bool] = True
    title: ClassVar[str] = "catalogue record"
    pattern: ClassVar[str] = "/catalog/<record>/<id>"
    meaning: ClassVar[str] = (
        "signed by the operator: what an alias means (<record>: model or corpus), or which keys are revoked "
        "(keys/revoked)"
    )
    example: ClassVar[tuple[str, ...]] = ("model", "smollm2-135m-instruct")


@dataclass(frozen=True, slots=True)
class Sync(Kind):
    group: str
    title: ClassVar[str] = "sync group"
    pattern: ClassVar[str] = "/sync/<group>"
    meaning: ClassVar[str] = (
        "whose members tell each other what they have published (State Vector Sync): Interests below it go to all of "
        "them; the publications themselves lie below each member's own name"
    )
    example: ClassVar[tuple[str, ...]] = ("offers",)


@dataclass(frozen=True, slots=True)
class DomainKey(Kind):
    domain: str
    epoch: str
    lasting: ClassVar[bool] = True
    title: ClassVar[str] = "domain key"
    pattern: ClassVar[str] = "/domain/<domain>/key/<epoch>"
    meaning: ClassVar[str] = "the key of one epoch of a tenant domain, wrapped for each member; <domain> is its id"
    example: ClassVar[tuple[str, ...]] = ("0123456789abcdef" * 2, "1")


@dataclass(frozen=True, slots=True)
class TokenBlock(Kind):
    model: str
    domain: str
    chain: str
    title: ClassVar[str] = "token block"
    pattern: ClassVar[str] = "/model/<model>/tokens/<domain>/<chain>"
    meaning: ClassVar[str] = "the token ids of one block and the chain hash of the block before it"
    example: ClassVar[tuple[str, ...]] = (_SAMPLE, "public", _SAMPLE)


@dataclass(frozen=True, slots=True)
class KvBlock(Kind):
    model: str
    domain: str
    codec: str
    chain: str
    layers: str
    title: ClassVar[str] = "KV block"
    pattern: ClassVar[str] = "/model/<model>/kv/<domain>/<codec>/<chain>/<layers>"
    meaning: ClassVar[str] = "keys and values of one block of tokens after all blocks before it, for a range of layers"
    example: ClassVar[tuple[str, ...]] = (_SAMPLE, "public", f"raw.{_PROMPTS}", _SAMPLE, "0-29")


@dataclass(frozen=True, slots=True)
class Activation(Kind):
    model: str
    domain: str
    codec: str
    layer: str
    chain: str
    title: ClassVar[str] = "activation"
    pattern: ClassVar[str] = "/model/<model>/act/<domain>/<codec>/<layer>/<chain>"
    meaning: ClassVar[str] = "what layer <layer> takes: hidden states of some tokens after all tokens before them"
    example: ClassVar[tuple[str, ...]] = (_SAMPLE, "public", f"{_PROMPTS}.raw", "15", _SAMPLE)


@dataclass(frozen=True, slots=True)
class Passage(Kind):
    corpus: str
    passage: str
    title: ClassVar[str] = "passage"
    pattern: ClassVar[str] = "/corpus/<corpus>/passage/<passage>"
    meaning: ClassVar[str] = "one passage of a corpus; <passage> is the SHA-256 of its record"
    example: ClassVar[tuple[str, ...]] = (_SAMPLE, _SAMPLE)


@dataclass(frozen=True, slots=True)
class Call(Kind):
    subject_kind: str
    subject: str
    function: str
    call_class: str
    request: str
    title: ClassVar[str] = "call"
    pattern: ClassVar[str] = "/<subject-kind>/<subject>/<function>/<call-class>/<request>"
    meaning: ClassVar[str] = "a request for a computation; <request> is the SHA-256 of its canonical record"
    example: ClassVar[tuple[str, ...]] = ("model", _SAMPLE, "tokenize", "shared", _SAMPLE)

    def result(self) -> Result:
        """The name under which a result too large or too slow for the answer itself is published."""
        return Result(self.subject_kind, self.subject, self.function, self.request)


@dataclass(frozen=True, slots=True)
class Result(Kind):
    subject_kind: str
    subject: str
    function: str
    request: str
    title: ClassVar[str] = "result"
    pattern: ClassVar[str] = "/<subject-kind>/<subject>/result/<function>/<request>"
    meaning: ClassVar[str] = "what a call produced: an object, or a stream while it is made; its version is the run"
    example: ClassVar[tuple[str, ...]] = ("model", _SAMPLE, "generate", _SAMPLE)

    def record(self) -> AnswerRecord:
        """What is said of the result, once it is there."""
        return AnswerRecord(self.subject_kind, self.subject, self.function, self.request)

    def asked(self) -> RequestObject:
        """What was asked."""
        return RequestObject(self.subject_kind, self.subject, self.function, self.request)


@dataclass(frozen=True, slots=True)
class AnswerRecord(Kind):
    subject_kind: str
    subject: str
    function: str
    request: str
    title: ClassVar[str] = "answer record"
    pattern: ClassVar[str] = "/<subject-kind>/<subject>/result/<function>/<request>/record"
    meaning: ClassVar[str] = (
        "a signed statement of what a result was made of, by whoever made it; its version is that of the result"
    )
    example: ClassVar[tuple[str, ...]] = ("model", _SAMPLE, "generate", _SAMPLE)

    def result(self) -> Result:
        """What it is about."""
        return Result(self.subject_kind, self.subject, self.function, self.request)


@dataclass(frozen=True, slots=True)
class RequestObject(Kind):
    subject_kind: str
    subject: str
    function: str
    request: str
    title: ClassVar[str] = "request"
    pattern: ClassVar[str] = "/<subject-kind>/<subject>/result/<function>/<request>/request"
    meaning: ClassVar[str] = (
        "the canonical request that a result answers; its SHA-256 is <request>, which readers compare"
    )
    example: ClassVar[tuple[str, ...]] = ("model", _SAMPLE, "generate", _SAMPLE)


KINDS: Final[tuple[type[Kind], ...]] = (
    Machine,
    Role,
    Instance,
    Question,
    InstanceQuestion,
    Input,
    SavedChat,
    Evidence,
    EncryptionKey,
    CatalogRecord,
    Sync,
    DomainKey,
    TokenBlock,
    KvBlock,
    Activation,
    Passage,
    Result,
    AnswerRecord,
    RequestObject,
    Call,
)
"""Every kind. No name is of two kinds (tested)."""


def parse_base(net: Name, base: Name) -> Kind | None:
    """The kind of a base name (without version and segment); None for a name of no kind."""
    texts = texts_of(net, base)
    found = (cls._match(texts, exact=True) for cls in KINDS)
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


@dataclass(frozen=True, slots=True)
class Explained:
    """`kind` is None for a name of no kind; `rest` is what follows the base name, one line each."""

    kind: Kind | None
    rest: tuple[str, ...]


def classify(net: Name, name: Name) -> Explained:
    """Which kind a full name is of, and what its trailing components say. Never raises on a well-formed name."""
    for cls in sorted(KINDS, key=lambda kind: -kind.pattern.count("/")):
        found = cls.parse_prefix(net, name)
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
