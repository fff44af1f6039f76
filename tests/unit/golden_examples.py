"""A record of every class, each of whose fields is away from its default in one of them.

Owns: these examples. What bytes they are: golden_records.py.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.functions.stage_steps import StageReport, StageRequest
from ndn_infer.kv.holders import Holdings, HoldsQuery
from ndn_infer.prompt_log.checkpoint import Checkpoint, Witnessed
from ndn_infer.prompt_log.entries import Erasure, LeafEntry, SealedEntry
from ndn_infer.prompt_log.said import (
    AppendCommand,
    Appended,
    EraseCommand,
    ErasedUser,
    PromptRecord,
    Saw,
    SawCheckpoint,
    UserKey,
    UserQuestion,
)
from ndn_infer.records import (
    CallAnswer,
    CallTrace,
    CorpusQuery,
    CorpusRecord,
    Envelope,
    GenerateRequest,
    Hit,
    Hits,
    KvSigner,
    KvSources,
    LookupRequest,
    Message,
    ModelRecord,
    PassageRecord,
    Progress,
    Record,
    Sampling,
    TokenBias,
    TokenBlockRecord,
    TokenEvent,
    TokenizeRequest,
    TokenLogprobs,
    Tokens,
)
from ndn_infer.records.audit import (
    AuditDone,
    AuditRequest,
    FoundFault,
    FoundFaults,
    MadeAnswers,
    MadeQuery,
    VerdictQuery,
)  # fmt: skip
from ndn_infer.records.chat import ChatMessage, ChatRecord, ChatStep, ChatToolCall
from ndn_infer.records.cite import Citations, CiteRequest
from ndn_infer.records.classify import ClassifyRequest, ScoreRow, Scores
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.records.grammar import Grammar, GrammarTool
from ndn_infer.records.guard import JudgeRequest, PolicyRecord, Redaction, ScreenRequest, TextVerdict, VerdictEvent
from ndn_infer.records.offer import HeldPrefixes, OfferedFunction, OfferQuery, ProducerOffer
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.records.receipt import Energy, PromptTokens, Receipt, StageSpent
from ndn_infer.records.tools import Tool, ToolCall
from ndn_infer.repo.records import (
    DeleteCommand,
    InsertCommand,
    ListCommand,
    RepoAnswer,
    RepoEntry,
    RepoStatus,
    UsageQuery,
)
from ndn_infer.security.domain_keys import DomainKeyRecord, DomainSecret, EncryptionKeyRecord
from ndn_infer.security.domain_store import DomainFile, DomainMember, EpochKey
from ndn_infer.security.domains import SealedRequest
from ndn_infer.security.revocation import Denied, RevocationList
from ndn_infer.transport.trust.presence import Counter, ModelEngine, ProducerStatus, StatusQuery

_HEX: Final = "ab" * 32
_ENGINE: Final = "bf16.int4.llama-torch-3.grouped.avx512.raw"
_SIGNER: Final = KvSigner("/n/s/a/prefill", 3)
_ENTRY: Final = RepoEntry("/n/a/54=%01", 70_000, True, "/n/s/r/repo")
_STATUS: Final = RepoStatus(3, 4, 5, 1, 2, 6, 7, 8, True)
_EPOCH: Final = EpochKey(1, b"k" * 32)
_MEMBER: Final = DomainMember("/n/s/a/user", b"\x04p")
_OFFERED: Final = OfferedFunction("generate", "model", _HEX, True)
_HELD: Final = HeldPrefixes(b"\x01" * 16, 2, 16)
_TOOL: Final = GrammarTool("f", '{"type":"object"}')
_LOGPROBS: Final = TokenLogprobs(-0.5, ((7, -0.5), (9, -1.0)), b"hi", (b"hi", b"yo"))
EXAMPLES: Final[dict[str, Record]] = {
    type(record).__name__: record
    for record in (
        CallAnswer(b"\x80", "/n/result/54=%01", "/n/s/a/decode", True, 2, "busy", "later", 1500, 250, "bf16"),
        ChatMessage("user", "hi"),
        ChatRecord("m", (ChatMessage("user", "hi"),)),
        ChatToolCall("add", '{"a": 1}', "call_1"),
        CorpusQuery(),
        CorpusRecord("notes", "cd" * 32, 12, _HEX, "rerank"),
        Counter("calls", 3.0),
        DeleteCommand("/n/a"),
        Denied("/n/s/a", 1_700_000_000_000_000, "lost"),
        DetokenizeRequest((1, 2**32 - 1), True, True),
        DomainFile("acme", "0123456789abcdef", "/n/s/a/domain", b"s" * 16, (_EPOCH,), (_MEMBER,)),
        DomainKeyRecord("/n/s/a/domain", b"s" * 16, 2, b"\x04e", (b"one", b"two")),
        _MEMBER,
        DomainSecret(b"k" * 32, "acme"),
        EmbedRequest((5, 7), ("a",), True),
        EncryptionKeyRecord(b"\x04p"),
        Envelope(b"\x80", ("/n/s/a/user/input",), "/n/s/a/user", 3, ("/n/s/b/decode",), 32768, 2),
        _EPOCH,
        GenerateRequest(Sampling(max_tokens=8), (1, 2**32 - 1), _ENGINE, 1),
        _TOOL,
        Grammar("tools", "x", ("y",), (_TOOL,), True, True),
        _HELD,
        Hit("/n/corpus/x", 0.5, 0.75),
        Hits((Hit("/n/corpus/x", 0.5, 0.75),)),
        Holdings(bytes(7) + b"\x01"),
        HoldsQuery(_HEX, "public", "raw.bf16.bf16.llama-torch-3.grouped.avx512", "0-29", b"\x01" * 8),
        InsertCommand("/n/a", ("/n/s/b",), True),
        _SIGNER,
        KvSources(1, 2, 3, 4, 5, 6, (_SIGNER,)),
        ListCommand("/n", "/n/a"),
        LookupRequest("q", 3),
        Message("user", "hi"),
        ModelEngine(_HEX, _ENGINE),
        ModelRecord("m", _HEX, "causal-lm", "llama", 2048, 49152, 30, 3, 64, 576, "hf:a/b", True),
        OfferQuery(),
        _OFFERED,
        PassageRecord("notes.md", "Notes", "text", 4, 3),
        PrefillReport(6, 3, 2.5, (_SIGNER,)),
        PrefillRequest((_HEX,), 1, 16, "raw.bf16.bf16.llama-torch-3.grouped.avx512"),
        ProducerStatus("/n/s/a/decode", ("generate",), (_HEX,), ("/n/model",), 7, 1.5, 1, 2, (Counter("calls", 3.0),),
                       (ModelEngine(_HEX, _ENGINE),)),
        ProducerOffer(
            "/n/s/a/decode", "/n/s/a/decode/instance/0", 1_700_000_000_000_000, 1_700_000_030_000_000, (_OFFERED,),
            ("style",), "bf16.llama", "bf16", 8192, 8, 3, 2, 4.5, 0.5, 480.0, 30.0, 9000.0, 0.25, _HELD,
        ),
        Progress("prefill", 1, 40, 190),
        RepoAnswer("working", (_ENTRY,), True, 1, 2, _STATUS),
        _ENTRY,
        _STATUS,
        RevocationList(1_800_000_000, (Denied("/n/s/a", 1_700_000_000_000_000, "lost"),)),
        Sampling(8, 0.5, 0.9, 40, 7, ("\n",), True, 0.1, 1.1, 0.5, -0.5, (TokenBias(5, 1.0),), 2, (3,), True),
        SealedRequest("0123456789abcdef.1", b"sealed"),
        StageReport(_HEX, "/n/s/a/stage", b"t"),
        StageRequest(_HEX, _ENGINE, 16, 40, (1, 2), "cd" * 32, 64, (3,), 9),
        StatusQuery(),
        UsageQuery(),
        TensorRecord(b"t", 3, 1, (5, 7, 9), (2, 1)),
        Text("hi", (b"h", b"i")),
        TokenBias(5, 1.0),
        TokenBlockRecord(_HEX, (1, 2)),
        TokenEvent(
            (7,), "hi", "stop", "why", KvSources(local=1), 4, ("/n/kv",), ("/n/s/a/decode",), (_LOGPROBS,), (_LOGPROBS,)
        ),
        TokenizeRequest((Message("user", "hi"),), "hi", "2026-12-31", True, True),
        _LOGPROBS,
        Tokens((1, 2)),
        Tool("add", "Adds.", '{"type": "object"}'),
        ToolCall("add", '{"a": 1}', "call_1"),
    )
} | {
    "ChatMessage.tool_calls": ChatMessage("assistant", "", (ChatToolCall("add"),)),
    "ChatMessage.tool_call_id": ChatMessage("tool", "3", tool_call_id="call_1"),
    "Message.tool_calls": Message("assistant", "", (ToolCall("add", '{"a": 1}', "call_1"),)),
    "Message.tool_call_id": Message("tool", "3", tool_call_id="call_1"),
    "TokenizeRequest.tools": TokenizeRequest((Message("user", "hi"),), tools=(Tool("add"),)),
}  # fmt: skip
"""Examples of every class. Each of its fields is away from its default in one of them."""
EXAMPLES["CallTrace"] = CallTrace(bytes(range(16)), bytes(range(8)))
EXAMPLES["Envelope.trace"] = Envelope(b"\x80", trace=CallTrace(bytes(range(16)), bytes(range(8))))
EXAMPLES["TokenEvent.stopped_by"] = TokenEvent((7,), finish="stop", stopped_by="END")
EXAMPLES["Envelope.evidence"] = Envelope(b"\x80", evidence=False, context="/n/s/a/user/evidence/public/context/00")
EXAMPLES["PromptTokens"] = PromptTokens(16, 32, 48, 64, 5)
EXAMPLES["Energy"] = Energy(1500, "powercap")
EXAMPLES["Receipt"] = Receipt(_ENGINE, PromptTokens(peer=16), 8, 9000, 40_000, 5000, 512, 900, Energy(1500, "powercap"))
EXAMPLES["StageSpent"] = StageSpent("/n/s/a/stage", 9, 40)
EXAMPLES["StageReport.spent"] = StageReport("ab" * 32, "/n/s", spent=(StageSpent("/n/s/a/stage", 9),))
EXAMPLES["Receipt.stages"] = Receipt(stages=(StageSpent("/n/s/a/stage", 9),))
_REDACTION: Final = Redaction(3, 9, "email", 1)
_ROW: Final = ScoreRow((0.25, 0.75))
EXAMPLES |= {
    type(record).__name__: record
    for record in (
        PolicyRecord("house", _HEX, b"{}"),
        JudgeRequest(_HEX, "/n/a/54=%01", "/n/k", "/n/h", "so far", b"{}"),
        ScreenRequest(_HEX, ("hi", "there"), b"{}"),
        _REDACTION,
        VerdictEvent(_HEX, "/n/a/54=%01", 7, 3, _HEX, "redact", 9, ("mail",), (_REDACTION,), True, "why", "busy"),
        TextVerdict(_HEX, _HEX, "redact", 9, ("mail",), (_REDACTION,)),
        ClassifyRequest(("hi",)),
        _ROW,
        Scores(("no", "yes"), (_ROW,)),
    )
}
EXAMPLES["CiteRequest"] = CiteRequest("when?", "on Thursday [1]", ("/n/p", "/n/q"))
EXAMPLES["Citations"] = Citations((1,), (7,), 2, 1, ("friday",))
EXAMPLES["AuditRequest"] = AuditRequest("/n/a", 0.5, 7, kv=True)
EXAMPLES["AuditDone"] = AuditDone("/n/v", "/n/h", "failed", "token 3")
EXAMPLES["MadeQuery"] = MadeQuery("ab" * 32, 9)
EXAMPLES["MadeAnswers"] = MadeAnswers(("/n/a", "/n/b"))
EXAMPLES["VerdictQuery"] = VerdictQuery()
EXAMPLES["FoundFault"] = FoundFault("/n/d", 9, "/n/v", "token 3")
EXAMPLES["FoundFaults"] = FoundFaults((FoundFault("/n/d", 9, "/n/v"),))
_SEALED: Final = SealedEntry(b"k" * 16, b"c" * 32, b"s" * 40, b"w" * 113)
_ERASURE: Final = Erasure(b"k" * 16, 1_700_000_000_000_000, "/n/s/a")
EXAMPLES |= {
    type(record).__name__: record
    for record in (
        _SEALED,
        _ERASURE,
        LeafEntry(_SEALED, _ERASURE),
        Checkpoint("/n/s/a/log", 7, b"r" * 32, 1_700_000_000, b"i" * 32, b"g" * 64),
        Witnessed(b"\x80", 1_700_000_000, 1_600_000_000, "fork", b"\x81", "why"),
        PromptRecord("asked", "0a", 1_700_000_000_000_000, "alice", "/n/s/a/user", "m", "public", "generate",
                     (ChatMessage("user", "hi"),), "hi", (1, 2), "/n/result/54=%01", "stop", 2),
        UserQuestion(b"u" * 16),
        UserKey(b"p" * 65),
        AppendCommand(b"\x80", "/n/s/a/user/input", ("/n/s/a/user",)),
        Appended(7, 8, True),
        EraseCommand(b"u" * 16),
        ErasedUser(b"k" * 16, 9),
        SawCheckpoint(b"\x80"),
        Saw("fork"),
    )
}  # fmt: skip
EXAMPLES["ChatStep"] = ChatStep("summary", 4, "what was said", "/n/result/54=%01")
EXAMPLES["ChatRecord.parent"] = ChatRecord(
    "m", (ChatMessage("user", "hi"),), "/n/chat/54=%01", (ChatStep("cut", 2),), ("/n/s/a/decode",)
)
EXAMPLES["TokenEvent.receipt"] = TokenEvent((7,), finish="stop", receipt=Receipt(output_tokens=1))
EXAMPLES["TokenEvent.code"] = TokenEvent((), finish="error", error="a stage is gone", code="unreachable")
EXAMPLES["Sampling.grammar"] = Sampling(8, grammar=Grammar("json_schema", '{"type":"null"}'))
