"""Every kind of name: which components it has, in which order, what they mean.

Owns: the patterns. Must not know: which texts components may be (grammar.py), prefixes, how a name is explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from ndn_infer import ndn
from ndn_infer.errors import BadName
from ndn_infer.namespace.grammar import Kind
from ndn_infer.ndn.name import Name

DOMAIN: Final = "domain"
"""The role that owns tenant domains."""

REPO: Final = "repo"
"""The role of a repo, which keeps objects of others."""

LOG: Final = "log"
"""The role of a prompt log, and of a witness of logs of others."""


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
class LogCheckpoint(Kind):
    site: str
    node: str
    title: ClassVar[str] = "log checkpoint"
    pattern: ClassVar[str] = "/<site>/<node>/log/checkpoint"
    meaning: ClassVar[str] = (
        "how many records a prompt log has, and the root of the Merkle tree over them; its version is their number"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1")


@dataclass(frozen=True, slots=True)
class LogTile(Kind):
    site: str
    node: str
    level: str
    index: str
    title: ClassVar[str] = "log tile"
    pattern: ClassVar[str] = "/<site>/<node>/log/tile/<level>/<index>"
    meaning: ClassVar[str] = (
        "256 hashes of a prompt log's Merkle tree, side by side, at 8 times <level> above its leaves; fewer at its "
        "right edge, and their number is the version"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "0", "3905")


@dataclass(frozen=True, slots=True)
class LogEntry(Kind):
    site: str
    node: str
    index: str
    title: ClassVar[str] = "log entry"
    pattern: ClassVar[str] = "/<site>/<node>/log/entry/<index>"
    meaning: ClassVar[str] = (
        "one record of a prompt log: what its leaf commits to, encrypted under a key of its own, and that key, wrapped "
        "for the user that it is about"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", "999999")


@dataclass(frozen=True, slots=True)
class WitnessedLog(Kind):
    site: str
    node: str
    log: str
    title: ClassVar[str] = "witnessed checkpoint"
    pattern: ClassVar[str] = "/<site>/<node>/log/witnessed/<log>"
    meaning: ClassVar[str] = (
        "the newest checkpoint of another site's log that this witness found consistent with all that it saw before, "
        "signed by it; <log> is the SHA-256 of that log's identity"
    )
    example: ClassVar[tuple[str, ...]] = ("home", "n1", _SAMPLE)


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
class PolicyObject(Kind):
    policy: str
    title: ClassVar[str] = "policy"
    pattern: ClassVar[str] = "/policy/<policy>"
    meaning: ClassVar[str] = (
        "rules by which a guard judges prompts and answers; <policy> is the SHA-256 of their canonical form, so that a "
        "verdict says by which rules it was made"
    )
    example: ClassVar[tuple[str, ...]] = (_SAMPLE,)


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
    LogCheckpoint,
    LogTile,
    LogEntry,
    WitnessedLog,
    EncryptionKey,
    CatalogRecord,
    Sync,
    DomainKey,
    TokenBlock,
    KvBlock,
    Activation,
    Passage,
    PolicyObject,
    Result,
    AnswerRecord,
    RequestObject,
    Call,
)
"""Every kind. No name is of two kinds (tested)."""
