"""An answer in a bundle: the segments of its stream, what they say, and the request that they answer.

Owns: how both are judged and read. Must not know: prompts, KV, what else an answer rests on (explain.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.errors import BadPacket, BadRecord, MissingKey, TrustError, UsageError
from ndn_infer.evidence.judge import Finding, Judge, Lacking, State, digest_of
from ndn_infer.namespace import Result, function_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import CONTENT_NACK, Data
from ndn_infer.records import GenerateRequest, TokenEvent
from ndn_infer.security.domains import PUBLIC, DomainEpoch, is_sealed_request, parse_request

MAX_SEGMENTS_OF_ANSWER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class StreamName:
    """The name of an answer's stream, taken apart."""

    name: Name
    base: Name
    version: int
    result: Result

    @classmethod
    def of(cls, net: Name, uri: str) -> StreamName:
        """Raises BadName; UsageError for a name of anything else than a stream of generate."""
        name = ndn.from_uri(uri)
        base, version = ndn.split_version(name)
        result = Result.parse(net, base)
        if result is None or version is None or result.function != "generate" or result.subject_kind != "model":
            raise UsageError(
                f"{uri} is not the name of an answer in {ndn.to_uri(net)}",
                hint="'ndn-infer ask --json' tells it as `stream`; '--last' is the answer to the last question",
            )
        return cls(name, base, version, result)


@dataclass(slots=True)
class JudgedAnswer:
    """What the stream says, as far as it is verified. `signer`: the key that signed all of it."""

    finding: Finding
    signer: Name = b""
    events: list[TokenEvent] = field(default_factory=list)
    sealed: bool = False
    digest: str = ""
    size: int = 0

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token for event in self.events for token in event.ids)

    @property
    def last(self) -> TokenEvent | None:
        return self.events[-1] if self.events and self.events[-1].finish else None


async def judge_answer(judge: Judge, stream: StreamName, domain: str) -> JudgedAnswer:
    """The stream of an answer, every segment; `domain` is the label of the domain in which it was asked."""
    answer = JudgedAnswer(Finding(State.VERIFIED))
    segments: list[Data] = []
    for number in range(MAX_SEGMENTS_OF_ANSWER):
        data = judge.bundle.data(stream.name + ndn.segment(number))
        answer.finding = await _segment(judge, data, answer.signer, number)
        if data is None or not answer.finding.good:
            return answer
        answer.signer = answer.finding.key
        segments.append(data)
        if data.final_block == ndn.segment(number):
            break
    answer.finding = await _sealed(judge, stream, segments) or answer.finding
    if answer.finding.good:
        answer.finding = _read(judge, answer, segments, domain)
    return answer


async def _segment(judge: Judge, data: Data | None, signer: Name, number: int) -> Finding:
    if data is None:
        return Finding(State.MISSING, f"segment {number} is not here")
    finding = await judge.packet(data)
    if not finding.good:
        return Finding(finding.state, f"segment {number}: {finding.why}", finding.key)
    if signer and finding.key != signer:
        return Finding(State.BROKEN, f"segment {number} is signed by another key than those before it", finding.key)
    if data.content_type == CONTENT_NACK:
        return Finding(State.BROKEN, f"segment {number} denies itself", finding.key)
    return finding


async def _sealed(judge: Judge, stream: StreamName, segments: list[Data]) -> Finding | None:
    """What is wrong with the manifest that seals the stream; None where it says the same, or is not here (a stream is
    signed segment by segment)."""
    found = await judge.object(stream.base, stream.version, whole=False)
    if found.finding.state is State.MISSING:
        return None
    if found.manifest is None:
        return Finding(found.finding.state, f"its manifest: {found.finding.why}", found.finding.key)
    try:
        listed = judge.segments(found.manifest)
    except (BadPacket, TrustError, Lacking) as error:
        return Finding(State.BROKEN, f"its manifest: {error}", found.finding.key)
    if [data.wire for data in listed] != [data.wire for data in segments]:
        return Finding(State.BROKEN, "its manifest lists other segments", found.finding.key)
    return None


def _read(judge: Judge, answer: JudgedAnswer, segments: list[Data], domain: str) -> Finding:
    key = answer.finding.key
    try:
        epoch = judge.domain(domain)
        contents = [
            epoch.open_event(data.name, data.content) if isinstance(epoch, DomainEpoch) else data.content
            for data in segments
        ]
        answer.digest, answer.size = digest_of(*contents), sum(map(len, contents))
        answer.events = [records.decode(TokenEvent, content) for content in contents]
    except MissingKey as error:
        answer.sealed = True
        return Finding(State.UNPROVEN, f"what it says is sealed: {error}", key)
    except (BadRecord, TrustError) as error:
        return Finding(State.BROKEN, str(error), key)
    if answer.last is None:
        return Finding(State.BROKEN, "its last event does not end it", key)
    return answer.finding


# ------------------------------------------------------------ the request


@dataclass(frozen=True, slots=True)
class JudgedRequest:
    """The request that the stream's name holds the digest of. `domain`: the label of the domain in which it was asked;
    `said` is None where it is not here, sealed, or broken."""

    name: Name
    finding: Finding
    domain: str = PUBLIC.label
    said: GenerateRequest | None = None


async def judge_request(judge: Judge, stream: StreamName, caller: Name) -> JudgedRequest:
    """The request object; `caller` is the identity that asked, which opens a private one, b"" where nobody knows."""
    base = stream.result.asked().to_name(judge.net)
    found = await judge.object(base)
    if found.content is None:
        return JudgedRequest(base, found.finding)
    key = found.finding.key
    if digest_of(found.content) != stream.result.request:
        why = "it is another request than the name of the answer says: its digest differs"
        return JudgedRequest(base, Finding(State.BROKEN, why, key))
    if is_sealed_request(found.content):
        return _opened(judge, stream, base, found.content, caller, key)
    try:
        said = records.decode(GenerateRequest, found.content)
    except BadRecord as error:
        return JudgedRequest(base, Finding(State.BROKEN, str(error), key))
    return JudgedRequest(base, found.finding, said=said)


def _opened(
    judge: Judge, stream: StreamName, base: Name, content: bytes, caller: Name, key: Name
) -> JudgedRequest:  # fmt: skip
    label = PUBLIC.label
    try:
        sealed = parse_request(content)
        label = sealed.domain
        epoch = judge.domain(label)
        assert isinstance(epoch, DomainEpoch)
        result = stream.result
        prefix = function_prefix(judge.net, result.subject_kind, result.subject, result.function)
        clear = epoch.open_request(prefix, caller, sealed)
        return JudgedRequest(base, Finding(State.VERIFIED, key=key), label, records.decode(GenerateRequest, clear))
    except MissingKey as error:
        return JudgedRequest(base, Finding(State.UNPROVEN, f"it is sealed: {error}", key), label)
    except (BadRecord, TrustError) as error:
        if not caller:
            why = "it is sealed for its caller, whom no context record names"
            return JudgedRequest(base, Finding(State.UNPROVEN, why, key), label)
        return JudgedRequest(base, Finding(State.BROKEN, str(error), key), label)
