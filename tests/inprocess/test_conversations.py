"""A conversation that moves: begun on one node, gone on with by another member on a second, branched on a third.

One forwarder, three decode nodes of a tenant domain and their users, each on a connection of its own, in this process;
KV goes from node to node by name alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ndn_infer import catalog
from ndn_infer.apps.gateway_talks import GatewayTalks
from ndn_infer.client import Answer, Client
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.client.tool_use import ToolUse
from ndn_infer.config import Config
from ndn_infer.errors import BadName, MissingKey, NetworkError, PromptTooLong
from ndn_infer.functions.compose import build_producer
from ndn_infer.functions.tokenize import Detokenize, Tokenize
from ndn_infer.library.chat import Chat, ChatParts, ChatTurn
from ndn_infer.library.continuing import Continued, Conversations
from ndn_infer.library.overflow import in_prompt
from ndn_infer.library.saved import SavedChats
from ndn_infer.local.prepare import record_of
from ndn_infer.models.store import ModelFolder
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.records import Message, Sampling
from ndn_infer.records.chat import CUT, SUMMARY, ChatStep
from ndn_infer.security import domain_store
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC
from tests.integration.test_forwarder_clients import forwarder
from tests.integration.test_kv_chat import BLOCK, Peer, config_in, peer, published

pytestmark = pytest.mark.model

TURNS = ("Who looks after a lighthouse, and why?", "And when there is a storm at sea?", "Say that in other words.")
TOKENS = 28
SHORT = 400
"""Context of the model `short`."""


@dataclass
class Member:
    """A user on a machine of his own, whose decode node is `at`."""

    config: Config
    client: Client
    at: Peer | None
    conversations: Conversations

    def parts(self, domain: str, model: str = "whole") -> ChatParts:
        return ChatParts(self.client, self.config, model, domain)

    async def ask(self, chat: Chat, text: str, tokens: int = TOKENS) -> Answer:
        """By this member's own node."""
        sampling = Sampling(tokens, ignore_eos=True)
        turn = ChatTurn(chat, (Message("user", text),), sampling, ToolUse(), AnswerParts(()))
        answer = await turn.begin()
        answer.at = (role_identity(self.config, "decode"),)
        async for event in answer:
            turn.said.take(event.text, last=bool(event.finish))
        turn.ended()
        assert len(answer.ids) == tokens
        return answer


@dataclass
class MovingWorld:
    members: list[Member]
    domain: str

    @property
    def one(self) -> Member:
        return self.members[0]


@asynccontextmanager
async def moving_world(directory: Path, model: ModelFolder, nodes: int) -> AsyncIterator[MovingWorld]:
    keys = directory / "data"
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        daemon = await enter(forwarder(directory, "one"))
        uri = f"unix://{daemon.options.unix_path}"
        first = config_in(keys, "m1")
        keychain = ensure_keys(first, ("tokenize", "user"))
        shop = DomainStore(first.keys_dir)
        with shop.locked():
            shop.save(domain_store.create("acme", role_identity(first, "user")))
        joined = await Node.join(first, keychain, uri=uri)
        stack.push_async_callback(joined.close)
        producer, host = build_producer(joined, "tokenize")
        stack.push_async_callback(producer.close)
        await producer.begin()
        for function in (Tokenize(model.digest, model.path), Detokenize(model.digest, model.path)):
            await producer.offer(function, joined.signer_as("tokenize"))
        record = record_of(model, "whole")
        paths = catalog.publish(first.catalog_dir, keychain, record)
        short = replace(record, alias="short", context_tokens=SHORT)
        paths += [path for path in catalog.publish(first.catalog_dir / "2", keychain, short) if "short" in path.name]
        for packets in catalog.load(paths):
            host.server.put(packets, pinned=True)
            await producer.offer_object(packets.base, joined.signer_as("tokenize"))
        members = []
        for number in range(1, nodes + 1):
            config = config_in(keys, f"m{number}")
            node = await Node.join(config, ensure_keys(config, ("user",)), uri=uri)
            stack.push_async_callback(node.close)
            client = await enter(Client(node))
            at = await enter(peer(daemon, keys, f"m{number}", "decode", model))
            members.append(Member(config, client, at, Conversations(SavedChats(node, client), config)))
        yield MovingWorld(members, tenant_of(shop.find("acme")).newest.label)


async def test_a_conversation_moves_and_branches_and_computes_only_what_is_new(
    tmp_path: Path, smollm2: ModelFolder
) -> None:
    async with moving_world(tmp_path, smollm2, 3) as world:
        one, two, three = world.members
        assert one.at is not None and two.at is not None and three.at is not None
        begun = await one.conversations.go_on("lighthouse", one.parts(world.domain))
        assert begun.found is None
        first = await one.ask(begun.chat, TURNS[0])
        saved, label = await one.conversations.keep(begun)
        assert label == "lighthouse" and f"/m1/user/chat/{world.domain}/lighthouse/" in saved.name
        held = (len(first.prompt_ids) + TOKENS - 1) // BLOCK
        await published(one.at, held - len(first.prompt_ids) // BLOCK)

        # another member, another node, by name alone
        gone_on = await two.conversations.go_on(saved.name, two.parts(PUBLIC.label))
        assert gone_on.chat.domain == world.domain and gone_on.chat.messages == begun.chat.messages
        second = await two.ask(gone_on.chat, TURNS[1])
        state, label = await two.conversations.keep(gone_on)
        assert label == "lighthouse" and f"/m2/user/chat/{world.domain}/lighthouse/" in state.name
        assert (await two.conversations.saved.load("lighthouse", domain=world.domain)).record.parent == saved.name
        _computed_only_what_is_new(two.at, first, second)
        await published(two.at, (len(second.prompt_ids) + TOKENS - 1) // BLOCK - len(second.prompt_ids) // BLOCK)

        # a third one branches from that, and the first goes on from where it was: both are kept
        branch = await three.conversations.go_on(state.name, three.parts(world.domain), "in-other-words")
        third = await three.ask(branch.chat, TURNS[2])
        branched, label = await three.conversations.keep(branch)
        assert label == "in-other-words"
        assert (await one.conversations.saved.load(branched.name)).record.parent == state.name
        _computed_only_what_is_new(three.at, second, third)
        again = await one.conversations.go_on("lighthouse", one.parts(world.domain))
        assert again.chat.messages == begun.chat.messages and again.chat.source == saved.name

        # the same by one process that shares nothing with them
        alone = Chat(one.parts(PUBLIC.label))
        for text, moved in zip(TURNS, (first, second, third), strict=True):
            answer = await one.ask(alone, text)
            assert (answer.prompt_ids, answer.ids) == (moved.prompt_ids, moved.ids)

        await _is_never_overwritten(one, begun)
        with pytest.raises(BadName):
            await two.conversations.go_on("/ndn-infer/local/home/m1/user/input/x", two.parts(PUBLIC.label))
        with pytest.raises((NetworkError, MissingKey)):
            await two.conversations.go_on(saved.name.replace("lighthouse", "nothing"), two.parts(world.domain))


def _computed_only_what_is_new(at: Peer, before: Answer, now: Answer) -> None:
    """Every whole block of what was said before came by name; the rest was computed once."""
    had = (len(before.prompt_ids) + TOKENS - 1) // BLOCK
    same = next(
        (place for place, (a, b) in enumerate(zip((*before.prompt_ids, *before.ids), now.prompt_ids, strict=False))
         if a != b), len(before.prompt_ids) + TOKENS - 1,
    )  # fmt: skip
    shared = min(had, same // BLOCK)
    kv = now.last.kv if now.last is not None else None
    assert shared > 3 and kv is not None and kv.named == shared, (shared, kv)
    assert at.blocks_computed == len(now.prompt_ids) // BLOCK - shared


async def _is_never_overwritten(one: Member, begun: Continued) -> None:
    """Two processes of one user go on from one state: the later one becomes a branch."""
    stale = Continued(replace_chat(begun.chat), "lighthouse")
    begun.chat.messages.append(Message("user", "first"))
    saved, label = await one.conversations.keep(begun)
    assert label == "lighthouse"
    stale.chat.messages.append(Message("user", "second"))
    other, label = await one.conversations.keep(stale)
    assert label.startswith("lighthouse-") and other.name != saved.name
    assert (await one.conversations.saved.load("lighthouse", domain=begun.chat.domain)).name == saved.name


def replace_chat(chat: Chat) -> Chat:
    return Chat(chat.parts, list(chat.messages), steps=list(chat.steps), source=chat.source)


@pytest.mark.slow
async def test_what_outgrows_the_context_is_handled_as_stated(tmp_path: Path, smollm2: ModelFolder) -> None:
    async with moving_world(tmp_path, smollm2, 1) as world:
        for policy in ("refuse", CUT, SUMMARY):
            await _outgrows(world.one, policy)
            await _outgrows_at_a_gateway(world.one, policy)


LONG = "Tell me more about lighthouses and the people who look after them, please. " * 8


async def _outgrows(one: Member, policy: str) -> None:
    one.config = replace(one.config, ask=replace(one.config.ask, overflow=policy))
    chat = Chat(one.parts(PUBLIC.label, "short"), [Message("system", "Be brief.")])
    for number in range(2):
        await one.ask(chat, f"{number}: {LONG}", 8)
    assert not chat.steps
    if policy == "refuse":
        with pytest.raises(PromptTooLong):
            await one.ask(chat, f"2: {LONG}", 8)
        assert not chat.steps and len(chat.messages) == 5
        return
    answer = await one.ask(chat, f"2: {LONG}", 8)
    (step,) = chat.steps
    assert len(answer.prompt_ids) + 8 <= SHORT and len(chat.messages) == 7
    assert (step.kind, bool(step.summary), bool(step.name)) == (policy, policy == SUMMARY, policy == SUMMARY)
    kept = in_prompt(chat.messages, step)
    assert len(kept) < 7 and kept[-2].content == f"2: {LONG}"
    if policy == SUMMARY:
        assert step.summary in kept[0].content and "/result/generate/" in step.name
    saved = await one.conversations.save(chat, f"long-{policy}")  # all of it, and what was done
    found = await one.conversations.load(saved.name)
    assert found.messages == chat.messages and found.steps == chat.steps
    with pytest.raises(PromptTooLong):
        await one.ask(chat, LONG * 9, 8)


async def _outgrows_at_a_gateway(one: Member, policy: str) -> None:
    """The same where messages come one request at a time, and the conversation by its name."""
    conversations = Conversations(one.conversations.saved, one.config)
    talks, record = GatewayTalks(conversations), await one.client.conversation().resolve_model("short")

    async def asked(text: str) -> Answer:
        talk = await talks.open(f"gateway-{policy}", [Message("user", text)], PUBLIC.label, "")
        conversation = one.client.conversation(PUBLIC.label)
        ids = await talk.prompt(conversation, record, (), 8)
        answer = conversation.generate(record, ids, Sampling(8, ignore_eos=True))
        async for _ in answer:
            pass
        talk.over(answer)
        return answer

    for number in range(2):
        await asked(f"{number}: {LONG}")
    if policy == "refuse":
        with pytest.raises(PromptTooLong):
            await asked(f"2: {LONG}")
    else:
        assert len((await asked(f"2: {LONG}")).prompt_ids) + 8 <= SHORT
    await talks.close()
    kept = (await conversations.saved.load(f"gateway-{policy}")).record
    assert [step.kind for step in kept.steps] == ([] if policy == "refuse" else [policy])
    assert len(kept.messages) == (4 if policy == "refuse" else 6), "prompts are shortened, the conversation is not"


def test_a_prompt_after_a_step() -> None:
    said = [Message("system", "s"), *(Message(role, str(n)) for n in range(3) for role in ("user", "assistant"))]
    assert in_prompt(said, None) == said
    assert in_prompt(said, ChatStep(CUT, 2)) == [said[0], *said[3:]]
    summed = in_prompt(said, ChatStep(SUMMARY, 4, "what was", "/n/a"))
    assert [one.role for one in summed] == ["system", "user", "assistant"] and "what was" in summed[0].content
    assert in_prompt(said[1:], ChatStep(SUMMARY, 2, "what was"))[0] == Message(
        "system", "Earlier messages were left out. Summary of them: what was"
    )
