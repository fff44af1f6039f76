"""A whole answer with all that it rests on, made in memory: keys, packets, a bundle. For the tests of evidence/."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from ndn_infer import chain, ndn, records
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.answer import AnswerClaim, AskedPrompt, ToldAnswer, ids_digest
from ndn_infer.evidence.answer import encode as encode_record
from ndn_infer.evidence.answer_kv import KvInput
from ndn_infer.evidence.bundle import BundleNote, EvidenceBundle
from ndn_infer.evidence.citations import citations
from ndn_infer.evidence.cited import cite_call, cite_request
from ndn_infer.evidence.context import CORPUS as CORPUS_RECORD
from ndn_infer.evidence.context import MODEL, REQUEST, TOKENIZE, Context, PassageUse
from ndn_infer.evidence.judge import Trust
from ndn_infer.evidence.spans import spans_in
from ndn_infer.evidence.statement import Resource
from ndn_infer.namespace import (
    AnswerRecord,
    Call,
    CatalogRecord,
    Evidence,
    KvBlock,
    Passage,
    RequestObject,
    Result,
    TokenBlock,
)
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_data
from ndn_infer.records import (
    CallAnswer,
    CorpusRecord,
    GenerateRequest,
    KvSources,
    Message,
    ModelRecord,
    PassageRecord,
    Record,
    Sampling,
    TokenBlockRecord,
    TokenEvent,
    TokenizeRequest,
    Tokens,
)
from ndn_infer.records.cite import Citations
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.security.crypto import Signer
from ndn_infer.security.revocation import RevocationList
from ndn_infer.security.trust import TrustSchema
from ndn_infer.wire.manifest import build_object, seal_stream
from tests.poison_objects import sent_segments
from tests.unit.trust_kit import DIGEST, NET, NOW, Authority, Holder

MODEL_DIGEST = DIGEST
CORPUS = hashlib.sha256(b"corpus").hexdigest()
ENGINE = "bf16.int4.llama-torch-3.grouped.avx512.raw"
CODEC = "raw.bf16.bf16.llama-torch-3.grouped.avx512"
VERSION = int(NOW * 1e6)
TEXTS = ("The meeting is on Thursday at nine.", "Room four is on the first floor.")
BLOCK = 16


def words_of(text: str) -> list[bytes]:
    """What stands for tokens here: pieces of three bytes."""
    raw = text.encode()
    return [raw[at : at + 3] for at in range(0, len(raw), 3)]


@dataclass
class MadeAnswer:
    """An honest answer and its bundle. `names` gives the packets' names by what they are: kind of node -> names of
    packets that this node alone rests on."""

    authority: Authority = field(default_factory=Authority)
    names: dict[str, list[Name]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        issue, root = self.authority.issue, self.authority.root
        self.site = issue("/home", root)
        self.holders: dict[str, Holder] = {"operator": issue("/operator", root)}
        for role in ("decode", "prefill", "tokenize", "rag", "cite", "user"):
            self.holders[role] = issue(f"/home/n1/{role}", self.site)
        self.bundle = EvidenceBundle(BundleNote("", made_us=VERSION))
        self.base = self.result.to_name(NET)
        self._make()
        stream = ndn.to_uri(self.base + ndn.version(VERSION))
        self.bundle.note = BundleNote(stream, self.context_uri, made_us=VERSION)
        self._certify()

    @property
    def stream(self) -> str:
        return self.bundle.note.stream

    def trust(self, now: float = NOW, anchor: Holder | None = None) -> Trust:
        return Trust(self.schema, (anchor or self.authority.root).certificate, now)

    @cached_property
    def schema(self) -> TrustSchema:
        return TrustSchema.load(NET)

    # ------------------------------------------------------------ what was asked

    @cached_property
    def message(self) -> str:
        return f"Answer from these.\n\n[1] {TEXTS[0]}\n\n[2] {TEXTS[1]}\n\nQuestion: when?"

    @cached_property
    def asked(self) -> TokenizeRequest:
        return TokenizeRequest((Message("user", self.message),))

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        return (b"<user>", *words_of(self.message), b"<end>")

    @cached_property
    def ids(self) -> tuple[int, ...]:
        return tuple(100 + number for number in range(len(self.pieces)))

    @cached_property
    def request(self) -> GenerateRequest:
        return GenerateRequest(Sampling(8), prompt=self.ids, engine=ENGINE)

    @cached_property
    def result(self) -> Result:
        return Result("model", MODEL_DIGEST, "generate", hashlib.sha256(records.encode(self.request)).hexdigest())

    # ------------------------------------------------------------ packets

    def signer(self, role: str) -> Signer:
        return self.holders[role].signer

    def object(self, kind: str, base: Name, content: bytes, role: str, *, version: int = VERSION) -> None:
        packets = build_object(base, version, content, self.signer(role).sign_data)
        below = () if packets.manifest.inline is not None else packets.packets.values()
        self._add(kind, packets.metadata, *below)

    def record(self, kind: str, base: Name, record: Record, role: str) -> None:
        self.object(kind, base, records.encode(record), role)

    def _add(self, kind: str, *wires: bytes) -> None:
        self.bundle.add(*wires)
        self.names.setdefault(kind, []).extend(decode_data(wire).name for wire in wires)

    def _make(self) -> None:
        self._stream()
        asked = RequestObject("model", MODEL_DIGEST, "generate", self.result.request).to_name(NET)
        self.object("request", asked, records.encode(self.request), "decode")
        self._prompt()
        self._documents()
        self._catalogue()
        self._context()
        self._cited()
        self._kv()
        self._record()

    def _stream(self) -> None:
        name, signer = self.base + ndn.version(VERSION), self.signer("decode")
        events = [
            TokenEvent((7, 8), "On Thursday"),
            TokenEvent((9,), " at nine."),
            TokenEvent((), finish="stop", kv=KvSources(prefilled=2), prompt_tokens=len(self.ids)),
        ]
        contents = [records.encode(event) for event in events]
        ends = {len(events) - 1: ndn.segment(len(events) - 1)}
        wires = [
            signer.sign_data(name + ndn.segment(number), content, final_block=ends.get(number))
            for number, content in enumerate(contents)
        ]
        sealed = seal_stream(self.base, VERSION, sent_segments(wires), signer.sign_data)
        self.digest = hashlib.sha256(b"".join(contents)).hexdigest()
        self._add("answer", sealed.metadata, *wires)

    def _call(self, kind: str, function: str, request: Record, answer: Record) -> None:
        digest = hashlib.sha256(records.encode(request)).hexdigest()
        name = Call("model", MODEL_DIGEST, function, "shared", digest).to_name(NET) + ndn.parameters_digest(bytes(32))
        value = records.encode(CallAnswer(value=records.encode(answer)))
        self._add(kind, self.signer("tokenize").sign_data(name, value))

    def _prompt(self) -> None:
        parent = chain.seed(BLOCK)
        for number, value in enumerate(chain.chain(self.ids, BLOCK)):
            base = TokenBlock(MODEL_DIGEST, "public", value.hex()).to_name(NET)
            ids = self.ids[number * BLOCK : (number + 1) * BLOCK]
            self.record("token block", base, TokenBlockRecord(parent.hex(), ids), "tokenize")
            parent = value
        self._call("tokenization", "tokenize", self.asked, Tokens(self.ids))
        text = Text("", self.pieces)
        self._call("text of ids", "detokenize", DetokenizeRequest(self.ids, True, True), text)

    def _documents(self) -> None:
        self.passages = []
        for number, text in enumerate(TEXTS):
            record = records.encode(PassageRecord("notes.md", f"Part {number}", text, number))
            base = Passage(CORPUS, hashlib.sha256(record).hexdigest()).to_name(NET)
            self.object("passage", base, record, "rag")
            self.passages.append(ndn.to_uri(base))

    def _catalogue(self) -> None:
        model = ModelRecord("smollm2", MODEL_DIGEST, "causal-lm", "LlamaForCausalLM", 8192, 49152)
        self.record("model", CatalogRecord("model", MODEL_DIGEST).to_name(NET), model, "operator")
        corpus = CorpusRecord("notes", CORPUS, 2, DIGEST)
        self.corpus = Resource(
            ndn.to_uri(base := CatalogRecord("corpus", CORPUS).to_name(NET)),
            hashlib.sha256(records.encode(corpus)).hexdigest(), CORPUS_RECORD,
        )  # fmt: skip
        self.record("corpus", base, corpus, "operator")
        nobody = RevocationList(int(NOW) + 86_400)
        self.record("deny list", CatalogRecord("keys", "revoked").to_name(NET), nobody, "operator")

    def context(self) -> Context:
        places = [(at := self.message.index(text), at + len(text)) for text in TEXTS]
        uses = []
        for uri, place, span in zip(self.passages, places, spans_in(self.pieces, self.message, places), strict=True):
            assert not isinstance(span, str), span
            uses.append(PassageUse(uri, uri[-64:], 0, place, span))
        asked = hashlib.sha256(records.encode(self.asked)).hexdigest()
        request = ndn.to_uri(RequestObject("model", MODEL_DIGEST, "generate", self.result.request).to_name(NET))
        tokenize = ndn.to_uri(RequestObject("model", MODEL_DIGEST, "tokenize", asked).to_name(NET))
        model = ndn.to_uri(CatalogRecord("model", MODEL_DIGEST).to_name(NET))
        values = tuple(value.hex() for value in chain.chain(self.ids, BLOCK))
        return Context(
            ids_digest(self.ids), (Resource(request, self.result.request, REQUEST),), MODEL_DIGEST, self.asked,
            Resource(tokenize, asked, TOKENIZE), Resource(model, name=MODEL), len(self.ids), BLOCK, values, tuple(uses),
            (self.corpus,),
        )  # fmt: skip

    def _context(self) -> None:
        envelope = dsse.encode(dsse.sign(statement.encode(self.context().statement()), self.signer("user")))
        digest = hashlib.sha256(envelope).hexdigest()
        base = Evidence("home", "n1", "user", "public", "context", digest).to_name(NET)
        self.object("context", base, envelope, "user")
        self.context_uri = ndn.to_uri(base)

    def citations(self) -> Citations:
        read = [PassageRecord("notes.md", f"Part {number}", text, number) for number, text in enumerate(TEXTS)]
        return citations("when?", "On Thursday at nine.", read)

    def _cited(self) -> None:
        request = cite_request(self.context(), "On Thursday at nine.")
        assert request is not None and request.question == "when?"
        name = cite_call(request).to_name(NET) + ndn.parameters_digest(bytes(32))
        value = records.encode(CallAnswer(value=records.encode(self.citations())))
        self._add("citations", self.signer("cite").sign_data(name, value))

    def _kv(self) -> None:
        self.kv = []
        for value in chain.chain(self.ids, BLOCK)[:2]:
            base = KvBlock(MODEL_DIGEST, "public", CODEC, value.hex(), "0-29").to_name(NET)
            packets = build_object(base, VERSION, bytes(9000), self.signer("prefill").sign_data)
            self._add("KV block", packets.metadata)
            self.kv.append(ndn.to_uri(base))

    def claim_of_answer(self) -> AnswerClaim:
        request = RequestObject("model", MODEL_DIGEST, "generate", self.result.request).to_name(NET)
        last = TokenBlock(MODEL_DIGEST, "public", chain.chain(self.ids, BLOCK)[-1].hex()).to_name(NET)
        prefill = ndn.to_uri(self.signer("prefill").identity)
        blocks = [KvInput(index, uri, VERSION, "prefilled", prefill) for index, uri in enumerate(self.kv)]
        return AnswerClaim(
            ndn.to_uri(self.base + ndn.version(VERSION)), ndn.to_uri(request), self.result.request,
            ndn.to_uri(NET) + f"/model/{MODEL_DIGEST}", "generate", ndn.to_uri(self.signer("decode").identity), ENGINE,
            self.request.sampling, AskedPrompt.of(self.ids, 0, ndn.to_uri(last)),
            ToldAnswer(self.digest, ids_digest((7, 8, 9)), 3, "stop"), KvSources(prefilled=2), tuple(blocks),
            context=self.context_uri,
        )  # fmt: skip

    def _record(self) -> None:
        base = AnswerRecord("model", MODEL_DIGEST, "generate", self.result.request).to_name(NET)
        self.object("answer record", base, encode_record(self.claim_of_answer(), self.signer("decode")), "decode")

    def _certify(self) -> None:
        for holder in (self.site, *self.holders.values()):
            self._add("key", holder.certificate.wire)


# ------------------------------------------------------------ damage


def parts_of(wire: bytes) -> dict[int, bytes]:
    """The elements of a Data packet by type, whole, in order."""
    _, start, end = tlv.read_header(wire, 0, len(wire))
    found, at = {}, start
    while at < end:
        kind, _, after = tlv.read_header(wire, at, end)
        found[kind] = wire[at:after]
        at = after
    return found


def joined(parts: dict[int, bytes]) -> bytes:
    return tlv.encode_tlv(tlv.DATA, b"".join(parts.values()))


def with_value(element: bytes, value: bytes) -> bytes:
    """An element of the same type with another value."""
    kind, _, _ = tlv.read_header(element, 0, len(element))
    return tlv.encode_tlv(kind, value)


def value_of(element: bytes) -> bytes:
    _, start, end = tlv.read_header(element, 0, len(element))
    return element[start:end]
