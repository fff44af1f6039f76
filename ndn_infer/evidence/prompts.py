"""The prompt of an answer in a bundle: its token blocks, who made them of which text, whose passages are in it.

Owns: the nodes of prompt, tokenization, context, passages and corpora. Must not know: answers, KV, how a tree is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ndn_infer import ndn, records
from ndn_infer.errors import BadName, BadRecord, MissingKey, TrustError
from ndn_infer.evidence.answer import ids_digest
from ndn_infer.evidence.claims import JudgedClaim, judge_claim
from ndn_infer.evidence.context import MAX_CONTEXT, Context, PassageUse
from ndn_infer.evidence.judge import Finding, Judge, State, digest_of, signer_of
from ndn_infer.evidence.node import EvidenceNode
from ndn_infer.evidence.quotes import quoted
from ndn_infer.evidence.shared_call import answer_node, decoded
from ndn_infer.evidence.spans import covers
from ndn_infer.namespace import Call, CallClass, CatalogRecord, Evidence, Passage, TokenBlock
from ndn_infer.ndn.name import Name
from ndn_infer.records import (
    CorpusRecord,
    PassageRecord,
    Record,
    TokenBlockRecord,
    Tokens,
)
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.security.private_corpus import open_passage


@dataclass(slots=True)
class JudgedContext:
    """The context record: its node, who signed it, and what it says where it is verified."""

    node: EvidenceNode
    identity: Name = b""
    domain: str = PUBLIC.label
    said: Context | None = None


async def judge_context(judge: Judge, uri: str) -> JudgedContext:
    """The record of this name ("": nobody knows of one)."""
    node = EvidenceNode("context", uri, State.VERIFIED, "what was asked, in the words of whoever asked")
    try:
        named = Evidence.parse(judge.net, base := ndn.split_version(ndn.from_uri(uri))[0]) if uri else None
    except BadName as error:
        named, node.why = None, str(error)
    if named is None:
        node.take(Finding(State.BROKEN if uri else State.MISSING, node.why or "no context record is known"))
        return JudgedContext(node)
    claim = await judge_claim(judge, base, named.domain, most=MAX_CONTEXT)
    node.take(claim.finding)
    signer = ndn.prefix(claim.finding.key, -2) if claim.finding.key else b""
    node.signer = ndn.to_uri(signer) if signer else ""
    found = JudgedContext(node, signer, named.domain, _read(node, claim, named))
    if found.said is not None:
        _tell(node, found.said)
    return found


def _read(node: EvidenceNode, claim: JudgedClaim, named: Evidence) -> Context | None:
    if claim.said is None:
        return None
    if digest_of(claim.clear) != named.content:
        node.broken("it is another record than its name says: its digest differs")
        return None
    try:
        context = Context.of(claim.said)
        request = records.encode(context.asked)
    except BadRecord as error:
        node.broken(str(error))
        return None
    if digest_of(request) != context.tokenize.sha256:
        node.broken("the request to tokenize that it names is not the one that it holds")
        return None
    return context


def _tell(node: EvidenceNode, context: Context) -> None:
    asked = context.asked
    what = f"{len(asked.messages)} message{'s' * (len(asked.messages) != 1)}" if asked.messages else "a text"
    more = f", {len(asked.tools)} tools" if asked.tools else ""
    node.words = f"{what}{more} through the template of model {context.model[:16]}"
    node.facts |= {
        "messages": [{"role": message.role, "content": message.content} for message in asked.messages],
        "text": asked.text,
        "tools": [tool.name for tool in asked.tools],
        "template": {"model": context.model, "day": asked.today},
    }


def check_context(context: JudgedContext, request: str, prompt: tuple[int, ...] | None, judge: Judge) -> None:
    """Whether a context record is about this request and prompt; its node says where it is not."""
    said, node = context.said, context.node
    if said is None:
        return
    if said.requests and request not in {resource.sha256 for resource in said.requests}:
        node.broken("it is about other requests than the one that was answered")
    if prompt is None:
        return
    if said.tokens != len(prompt) or said.sha256 != ids_digest(prompt) or not said.block_tokens:
        node.broken("it is about a prompt of other ids than the request has")
        return
    try:
        values = judge.domain(context.domain).chain_values(prompt, said.block_tokens)
    except MissingKey:
        return
    if tuple(value.hex() for value in values) != said.chain:
        node.broken("its token blocks are not those of the prompt")


# ------------------------------------------------------------ passages


@dataclass(slots=True)
class PromptParts:
    """What the nodes of one prompt are made from."""

    judge: Judge
    model: str
    ids: tuple[int, ...]
    context: JudgedContext
    pieces: tuple[bytes, ...] = ()
    corpora: set[Name] = field(default_factory=set)
    texts: dict[str, PassageRecord] = field(default_factory=dict)
    """Passages that are what their names say, by these."""

    async def passages(self) -> list[EvidenceNode]:
        """A node for each passage in the context record."""
        said = self.context.said
        if said is None or not said.passages:
            return []
        return [await self._passage(said, use) for use in said.passages]

    async def _passage(self, said: Context, use: PassageUse) -> EvidenceNode:
        node = EvidenceNode("passage", use.uri, State.VERIFIED)
        try:
            base = ndn.from_uri(use.uri)
            named = Passage.parse(self.judge.net, base)
        except BadName:
            named = None
        if named is None:
            node.broken("this is not the name of a passage")
            return node
        found = await self.judge.object(base)
        node.take(found.finding)
        node.signer = signer_of(found.finding)
        if found.content is not None:
            self._read_passage(node, named, use, said, found.content)
        node.facts |= {"span": list(use.span) if use.span else None, "why_no_span": use.why}
        corpus = CatalogRecord("corpus", named.corpus).to_name(self.judge.net)
        known = [one for one in said.corpora if one.uri == ndn.to_uri(corpus)]
        if known and corpus not in self.corpora:
            self.corpora.add(corpus)
            node.parts.append(await self._corpus(corpus, named.corpus, known[0].sha256))
        return node

    def _read_passage(self, node: EvidenceNode, named: Passage, use: PassageUse, said: Context, content: bytes) -> None:
        if digest_of(content) != named.passage or named.passage != use.sha256:
            node.broken("it is another text than its name says: its digest differs")
            return
        try:
            domain = self.judge.domain(self.context.domain)
            record = records.decode(PassageRecord, open_passage(domain, self.judge.net, named.corpus, content))
        except (BadRecord, TrustError, MissingKey) as error:
            node.broken(str(error))
            return
        self.texts[use.uri] = record
        where = f"ids {use.span[0]} to {use.span[1] - 1} of the prompt" if use.span else f"where: {use.why}"
        node.words = f"“{record.title}” in {record.source}, {where}"
        node.facts |= {"title": record.title, "source": record.source}
        messages = said.asked.messages
        first, end = use.characters
        there = messages[use.message].content[first:end] if use.message < len(messages) else ""
        if there not in (record.text, quoted(record.text)):
            node.broken("it does not stand in the message where the context record says")
        elif use.span is not None and self.pieces and not covers(self.pieces, use.span, there):
            node.broken("the ids of the prompt that it is said to be do not hold its text")
        elif use.span is not None and not self.pieces:
            node.words += " (not checked: the text of the prompt's ids is not here)"

    async def _corpus(self, base: Name, digest: str, sha256: str) -> EvidenceNode:
        """What the operator says of a corpus, by its digest, as the context names it; not every corpus has a record."""
        node = EvidenceNode("corpus", ndn.to_uri(base), State.VERIFIED, "what the operator says of the corpus")
        found = await self.judge.object(base)
        node.take(found.finding)
        node.signer = signer_of(found.finding)
        record = decoded(node, CorpusRecord, found.content)
        if found.content is not None and digest_of(found.content) != sha256:
            node.broken("it is another record than the context names")
        elif record is not None and record.digest != digest:
            node.broken("it is about another corpus")
        elif record is not None:
            node.words = f"corpus {record.alias}: {record.passages} passages"
            node.facts |= {"alias": record.alias, "passages": record.passages}
        return node

    # -------------------------------------------------------- tokens

    async def blocks(self, domain: Domain, block: int) -> list[EvidenceNode]:
        """A node for each full token block of the prompt: the names follow from the ids."""
        nodes, parent = [], domain.chain_seed(block)
        for number, value in enumerate(domain.chain_values(self.ids, block)):
            base = TokenBlock(self.model, domain.label, value.hex()).to_name(self.judge.net)
            ids = self.ids[number * block : (number + 1) * block]
            node = EvidenceNode("token block", ndn.to_uri(base), State.VERIFIED, f"ids {number * block} and following")
            found = await self.judge.object(base)
            node.take(found.finding)
            node.signer = signer_of(found.finding)
            try:
                content = None if found.content is None else domain.open(base, found.content)
                record = decoded(node, TokenBlockRecord, content)
            except TrustError as error:
                node.broken(str(error))
                record = None
            if record is not None and (record.parent, record.ids) != (parent.hex(), ids):
                node.broken("it holds other ids than the prompt has there")
            nodes.append(node)
            parent = value
        return nodes

    async def tokenization(self) -> EvidenceNode | None:
        """The tokenize producer's signed answer to what was asked; None for private prompts, whose answers are sealed
        for one call."""
        said = self.context.said
        if said is None or self.context.domain != PUBLIC.label:
            return None
        node, tokens = await self._answered("tokenization", "tokenize", said.asked, Tokens)
        if tokens is not None and tokens.ids != self.ids:
            node.broken("the text that was asked has other ids than the prompt")
        elif tokens is not None:
            node.words = f"the text has these {len(tokens.ids)} ids"
        return node

    async def read_pieces(self) -> EvidenceNode | None:
        """The bytes of the prompt's ids, by which spans are checked; None where no passage needs them."""
        said = self.context.said
        if said is None or not any(use.span for use in said.passages):
            return None
        request = DetokenizeRequest(self.ids, True, True)
        node, text = await self._answered("text of ids", "detokenize", request, Text)
        if text is not None and len(text.pieces) != len(self.ids):
            node.broken("it has the text of other ids")
        elif text is not None:
            node.words, self.pieces = f"the bytes of each of the {len(self.ids)} ids", text.pieces
        return node

    async def _answered(
        self, kind: str, function: str, request: Record, cls: type[records.R]
    ) -> tuple[EvidenceNode, records.R | None]:
        call = Call("model", self.model, function, CallClass.SHARED, digest_of(records.encode(request)))
        return await answer_node(self.judge, kind, call, cls)
