"""Claims in a bundle: objects that hold a DSSE envelope with a statement, judged as packets and as envelopes.

Owns: that the key of the envelope is the key of the packets, and what is wrong where it is not. Must not know: what any
statement says.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndn_infer.errors import BadPacket, BadRecord, MissingKey, TrustError
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.judge import Finding, Judge, JudgedObject, State
from ndn_infer.evidence.statement import Statement
from ndn_infer.ndn.name import Name


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """`said` is there where object, envelope and statement are what they should be. `clear` are its bytes, unsealed."""

    object: JudgedObject
    finding: Finding
    said: Statement | None = None
    clear: bytes = b""


async def judge_claim(judge: Judge, base: Name, domain: str, *, most: int, version: int | None = None) -> JudgedClaim:
    """The claim in the object `base`. `domain` is the label of the domain in which it is sealed, or public; `most`
    bytes are taken."""
    found = await judge.object(base, version)
    if found.content is None:
        return JudgedClaim(found, found.finding)
    key = await judge.key(found.finding.key)
    try:
        clear = judge.domain(domain).open(base, found.content)
        envelope = dsse.decode(clear, most)
        if key.certificate is None or not dsse.verify(envelope, key.certificate.public_der):
            raise BadRecord("its envelope is not signed by the key that signed the object")
        return JudgedClaim(found, found.finding, statement.decode(envelope.payload, most), clear)
    except MissingKey as error:
        return JudgedClaim(found, Finding(State.UNPROVEN, f"it is sealed: {error}", found.finding.key))
    except (BadRecord, BadPacket, TrustError) as error:
        return JudgedClaim(found, Finding(State.BROKEN, str(error), found.finding.key))
