"""Verdicts: what an auditor computed again of an answer or of KV, and what came of it.

Owns: what a claim of type VERDICT says, its bounds, and the proof that lets a third party compute the fault again. Must
not know: how anything is recomputed, the network.

A verdict that carries a proof is not believed for its signature: whoever wants to know checks the packets in it, which
the accused signed, and computes the one step again. A verdict without one is a word of its auditor.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import Json
from ndn_infer.evidence.statement import INPUTS, VERDICT, Resource, Statement, plain

TOKENS: Final = "tokens"
KV: Final = "kv"
EXACT: Final = "exact"
MARGIN: Final = "margin"
PASSED: Final = "passed"
FAILED: Final = "failed"
SUSPECTED: Final = "suspected"

FAULTS: Final = ("token", "logprob", "text", "end", "kv")
"""What is wrong: a token, what is told of one, the text of the tokens, where the answer ends, a KV block."""

MAX_PACKETS: Final = 1024
MAX_PROOF_BYTES: Final = 512 << 10
"""Of all packets and the request."""
MAX_CERTIFICATES: Final = 8
MAX_IDS: Final = 1 << 17
_MAX_TEXT: Final = 4096
_MAX_COUNT: Final = 1 << 53
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and whose signature stands on it. `index`: of the token in the answer, or of the block;
    `published` and `recomputed`: the tokens there (-1: none); `margin`: how far the published one is from being
    chosen (engine/sampler.margin_of; of KV the largest difference of a number); `words`: all of this for people."""

    kind: str
    identity: str
    index: int
    published: int = -1
    recomputed: int = -1
    margin: float = 0.0
    words: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a third party needs beside keys and model. `packets`: signed by the accused; of an answer its segments from
    the first on, of KV the block's manifest. `request`: the canonical request whose digest is in the answer's name.
    `ids`: token ids up to the block's end, of which the block's name holds the chain value; `answered`: how many of the
    last of them were made and not asked. `certificates`: of the accused and its issuers."""

    packets: tuple[bytes, ...]
    certificates: tuple[bytes, ...] = ()
    request: bytes = b""
    ids: tuple[int, ...] = ()
    answered: int = 0


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """`subject`: name and digest of what was audited. `what`: TOKENS or KV; `method`: EXACT or MARGIN; `share` of the
    `units` (tokens, blocks) drawn by `seed`, of which `checked` were. `engine`: the class that computed; `of_engine`
    that of the answer. `made_us`, `until_us`: Unix epoch; afterwards nobody is left out for it. `seconds`: of
    computing."""

    subject: Resource
    inputs: tuple[Resource, ...]
    what: str
    method: str
    result: str
    engine: str
    of_engine: str
    units: int
    checked: int
    share: float
    seed: int
    made_us: int
    until_us: int
    seconds: float = 0.0
    fault: Fault | None = None
    proof: Proof | None = None

    def statement(self) -> Statement:
        """Raises BadRecord where something is out of its bounds."""
        self.check()
        return Statement((self.subject,), VERDICT, {INPUTS: plain(self.inputs), **self.plain()})

    def plain(self) -> dict[str, Json]:
        """All but subject and inputs."""
        said: dict[str, Json] = {name: getattr(self, name) for name in _SIMPLE}
        said["seed"] = f"{self.seed:016x}"
        if self.fault is not None:
            said["fault"] = asdict(self.fault)
        if self.proof is not None:
            said["proof"] = _proof_plain(self.proof)
        return said

    @classmethod
    def of(cls, statement: Statement) -> AuditVerdict:
        """Raises BadRecord."""
        said = dict(statement.predicate)
        said.pop(INPUTS, None)
        if statement.predicate_type != VERDICT or len(statement.subject) != 1:
            raise BadRecord("a verdict is a statement of its type about one thing")
        fault, proof, seed = said.pop("fault", None), said.pop("proof", None), said.pop("seed", None)
        if set(said) != set(_SIMPLE) or type(seed) is not str or not re.fullmatch(r"[0-9a-f]{16}", seed):
            raise BadRecord(f"a verdict has {', '.join(_SIMPLE)}, a seed, and may have fault and proof")
        for name, kind in _SIMPLE.items():
            _typed(said[name], kind, name)
        verdict = cls(
            statement.subject[0], statement.inputs, **said, seed=int(seed, 16),  # type: ignore[arg-type]
            fault=None if fault is None else _fault(fault), proof=None if proof is None else _proof(proof),
        )  # fmt: skip
        verdict.check()
        return verdict

    def check(self) -> None:
        """Raises BadRecord where it contradicts itself."""
        if self.what not in (TOKENS, KV) or self.method not in (EXACT, MARGIN):
            raise BadRecord("a verdict is about tokens or kv, by the method exact or margin")
        if self.result not in (PASSED, FAILED, SUSPECTED) or (self.result == FAILED) != (self.proof is not None):
            raise BadRecord("a verdict is passed, failed (then it has a proof) or suspected")
        if (self.result == PASSED) != (self.fault is None):
            raise BadRecord("a fault stands in verdicts that are not passed, and in all of them")
        if not 0 <= self.checked <= self.units <= MAX_IDS or not 0.0 < self.share <= 1.0:
            raise BadRecord("a verdict counts what it checked, and a share of it that is not 0")
        if not 0 <= self.made_us <= self.until_us <= _MAX_COUNT or not 0.0 <= self.seconds <= 1e9:
            raise BadRecord("the times of a verdict are out of their bounds")
        if not 0 <= self.seed < 1 << 64:
            raise BadRecord("a seed has 64 bits")
        if self.fault is not None:
            _check_fault(self.fault)
        if self.proof is not None:
            check_proof(self.proof)


_SIMPLE: Final[dict[str, type]] = {
    "what": str, "method": str, "result": str, "engine": str, "of_engine": str, "units": int, "checked": int,
    "share": float, "made_us": int, "until_us": int, "seconds": float,
}  # fmt: skip


def _typed(value: Any, kind: type, where: str) -> None:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise BadRecord(f"{where} of a verdict is of type {kind.__name__}")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise BadRecord(f"{where} of a verdict has at most {_MAX_TEXT} characters")


def _check_fault(fault: Fault) -> None:
    if fault.kind not in FAULTS or not math.isfinite(fault.margin):
        raise BadRecord(f"a fault is of the kinds {', '.join(FAULTS)}, its margin a number")
    counts = (fault.index, fault.published + 1, fault.recomputed + 1)
    if not all(0 <= count <= _MAX_COUNT for count in counts):
        raise BadRecord("the numbers of a fault are out of their bounds")


def _fault(value: Any) -> Fault:
    kinds = {"margin": float, "index": int, "published": int, "recomputed": int}
    names = [item.name for item in fields(Fault)]
    if type(value) is not dict or set(value) != set(names):
        raise BadRecord(f"a fault has {', '.join(names)}")
    for name in names:
        _typed(value[name], kinds.get(name, str), name)
    return Fault(**value)


def check_proof(proof: Proof) -> None:
    """Raises BadRecord where it exceeds a bound."""
    size = sum(map(len, proof.packets)) + sum(map(len, proof.certificates)) + len(proof.request)
    if not 1 <= len(proof.packets) <= MAX_PACKETS or len(proof.certificates) > MAX_CERTIFICATES:
        raise BadRecord(f"a proof has 1 to {MAX_PACKETS} packets and {MAX_CERTIFICATES} certificates at most")
    if size > MAX_PROOF_BYTES:
        raise BadRecord(f"a proof of {size} bytes exceeds {MAX_PROOF_BYTES}")
    if len(proof.ids) > MAX_IDS or not all(0 <= one < 1 << 32 for one in proof.ids):
        raise BadRecord("the token ids of a proof are out of their bounds")
    if not 0 <= proof.answered <= len(proof.ids):
        raise BadRecord("a proof cannot have more made tokens than tokens")


def _proof_plain(proof: Proof) -> dict[str, Json]:
    return {
        "packets": [_text(one) for one in proof.packets],
        "certificates": [_text(one) for one in proof.certificates],
        "request": _text(proof.request), "ids": list(proof.ids), "answered": proof.answered,
    }  # fmt: skip


def _proof(value: Any) -> Proof:
    names = {"packets", "certificates", "request", "ids", "answered"}
    if not isinstance(value, Mapping) or set(value) != names:
        raise BadRecord(f"a proof has {', '.join(sorted(names))}")
    ids = value["ids"]
    if type(ids) is not list or len(ids) > MAX_IDS or not all(type(one) is int for one in ids):
        raise BadRecord("the token ids of a proof are numbers")
    _typed(value["answered"], int, "answered")
    packets, certificates = _wires(value["packets"], MAX_PACKETS), _wires(value["certificates"], MAX_CERTIFICATES)
    return Proof(packets, certificates, _bytes(value["request"]), tuple(ids), value["answered"])


def _wires(value: Any, most: int) -> tuple[bytes, ...]:
    if type(value) is not list or len(value) > most:
        raise BadRecord(f"packets are a list of at most {most}")
    return tuple(map(_bytes, value))


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bytes(value: Any) -> bytes:
    try:
        found = base64.b64decode(value, validate=True) if type(value) is str else None
    except (binascii.Error, ValueError):
        found = None
    if found is None or _text(found) != value:
        raise BadRecord("packets of a proof are base64 with its padding")
    return found


@dataclass(frozen=True, slots=True)
class KnownFault:
    """Whom not to ask, why, and until when (Unix epoch, microseconds). `verdict`: the name or file that says so."""

    identity: str
    until_us: int
    verdict: str
    words: str = ""


@dataclass(slots=True)
class FaultBook:
    """Identities with a proven fault: those of verdicts whose proof was checked here, or whose auditor is trusted.
    Pure: `now_us` is passed in. At most MOST, those that last longest."""

    faults: dict[str, KnownFault] = field(default_factory=dict)

    MOST = 256

    def add(self, fault: KnownFault) -> None:
        """The one that lasts longer counts."""
        known = self.faults.get(fault.identity)
        if known is None or known.until_us < fault.until_us:
            self.faults[fault.identity] = fault
        while len(self.faults) > self.MOST:
            del self.faults[min(self.faults, key=lambda identity: self.faults[identity].until_us)]

    def of(self, identity: str, now_us: int) -> KnownFault | None:
        """Why this identity is left out; None where it is not, or not any more."""
        fault = self.faults.get(identity)
        return fault if fault is not None and fault.until_us > now_us else None
