"""Calls of any function in a prompt log, written by their producers over a real forwarder core: what is recorded, of
which functions, for whom, and that nothing is worked on which cannot be recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import CallConfig, Config, RecordingConfig
from ndn_infer.errors import CallError, PromptError
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.prompt_log.entries import key_id, opened
from ndn_infer.prompt_log.live.users import user_of
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.prompt_log.policy import DECODE
from ndn_infer.prompt_log.said import PromptRecord
from ndn_infer.records import Record, TokenizeRequest, Tokens
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.security.domains import TenantDomain
from ndn_infer.transport.calls.ask import Ask
from tests.harness import Node, role
from tests.prompt_log_kit import LOG, LogWorld, RunningLog, log_world, until

MODEL = ("model", "ab" * 32)
TENANT = TenantDomain("00112233445566778899aabbccddeeff", {1: bytes(range(32))})
SECRET = "my blood type is AB negative"


class Words(NamedFunction[TokenizeRequest]):
    """Counts its work: what is refused is not worked on."""

    function, role, request_type, private, subject = "tokenize", "tokenize", TokenizeRequest, True, MODEL

    def __init__(self) -> None:
        self.worked = 0

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        self.worked += 1
        if "fail" in request.text:
            raise PromptError("no such words")
        return Tokens(tuple(range(len(request.text.split()))))


class Vectors(NamedFunction[EmbedRequest]):
    function, role, request_type, private, subject = "embed", "embed", EmbedRequest, True, MODEL

    async def run(self, request: EmbedRequest, job: Job) -> Record:
        return TensorRecord(bytes(1000), 1, 0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LogWorld]:
    async with log_world(tmp_path) as world:
        world.keychain.ensure(*map(role, ("tokenize", "embed")))
        yield world


@asynccontextmanager
async def producing(world: LogWorld, words: Words, policy: str, **recording: object) -> AsyncIterator[None]:
    """Both functions, at a producer under this policy."""
    wanted = RecordingConfig(policies=(f"*={ndn.to_uri(LOG)}+{policy}",), wait_s=1.0, **recording)  # type: ignore[arg-type]
    node = await Node(
        world.network, world.keychain, replace(Config(), recording=wanted), asks_as="tokenize", domains=[TENANT]
    ).open()
    node.validator.add_certificates(*world.keychain.certificates())
    assert node.inputs is not None
    writers = LogWriters(node.joined, DECODE, world.keychain.signer_for(role("tokenize")), node.inputs)
    host = replace(node.new_host(), log_writers=writers)
    producer = Producer(host, world.keychain, node.registrar)
    await producer.begin()
    for function in (words, Vectors()):
        await producer.offer(function, world.keychain.signer_for(role(function.role)))
    try:
        yield
    finally:
        await producer.close()
        await node.close()


@asynccontextmanager
async def asking(world: LogWorld) -> AsyncIterator[Node]:
    config = replace(Config(), call=replace(CallConfig(), deadline_s=20.0))
    node = await Node(world.network, world.keychain, config, asks_as="user", domains=[TENANT]).open()
    try:
        yield node
    finally:
        await node.close()


def in_clear(log: RunningLog, user: str) -> list[PromptRecord]:
    """Records of this user, in order."""
    private = log.log.users.private(user_of(LOG, user))
    assert private is not None
    entries = [log.book.entry(index) for index in range(log.book.tree.size)]
    found = []
    for entry in entries:
        assert entry is not None and entry.sealed is not None
        if entry.sealed.user == key_id(private.public):
            found.append(records.decode(PromptRecord, opened(entry.sealed, private)))
    return found


def tokenize(text: str, domain: str = "public") -> Ask:
    return Ask(MODEL, "tokenize", TokenizeRequest(text=text), domain)


async def test_every_call_and_answer_is_recorded(world: LogWorld) -> None:
    words = Words()
    async with world.log() as log, producing(world, words, "producers+refuse"), asking(world) as node:
        assert (await node.caller.call(tokenize(SECRET), Tokens)).ids == (0, 1, 2, 3, 4, 5)
        with pytest.raises(CallError, match="no such words"):
            await node.caller.call(tokenize("these fail"), Tokens)
        await node.caller.call(Ask(MODEL, "embed", EmbedRequest(texts=(SECRET,))), TensorRecord)
        await node.caller.call(tokenize("of a tenant", TENANT.newest.label), Tokens)
        await until(lambda: log.book.tree.size == 8)
        open_calls = in_clear(log, "public")
        tenant = in_clear(log, ndn.to_uri(role("user")))
    kinds = [(one.function, one.kind, one.finish) for one in open_calls]
    assert sorted(kinds) == sorted(
        [
            ("tokenize", "asked", ""), ("tokenize", "answered", "done"), ("tokenize", "asked", ""),
            ("tokenize", "answered", "bad-request"), ("embed", "asked", ""), ("embed", "answered", "done"),
        ]
    )  # fmt: skip
    asked = [one for one in open_calls if one.kind == "asked"]
    assert SECRET in asked[0].text and {one.model for one in open_calls} == {MODEL[1]}
    answers = {one.call: one for one in open_calls if one.kind == "answered"}
    assert answers[asked[0].call].ids == (0, 1, 2, 3, 4, 5)
    vector = next(one for one in answers.values() if one.function == "embed")
    assert '"bytes": 1000' in vector.text and "0000000000" not in vector.text
    assert [(one.kind, one.domain) for one in tenant] == [(kind, TENANT.newest.label) for kind in ("asked", "answered")]
    assert "of a tenant" in tenant[0].text


async def test_what_cannot_be_recorded_is_not_worked_on(world: LogWorld) -> None:
    words = Words()
    async with producing(world, words, "producers+refuse"), asking(world) as node:
        with pytest.raises(CallError, match="cannot be recorded"):
            await node.caller.call(tokenize(SECRET), Tokens)
        assert words.worked == 0
        async with world.log() as log:
            await node.caller.call(tokenize(SECRET), Tokens)
            await until(lambda: log.book.tree.size == 2)
    assert words.worked == 1


@pytest.mark.parametrize(
    ("policy", "functions", "recorded"),
    [
        ("producers+spool", ("embed",), {"embed"}),
        ("producers+spool", ("*",), {"embed", "tokenize"}),
        ("decode+spool", ("*",), set()),
        ("gateway+spool", ("*",), set()),
    ],
)
async def test_which_functions_are_recorded(
    world: LogWorld, policy: str, functions: tuple[str, ...], recorded: set[str]
) -> None:
    async with world.log() as log, asking(world) as node:
        async with producing(world, Words(), policy, functions=functions):
            await node.caller.call(tokenize(SECRET), Tokens)
            await node.caller.call(Ask(MODEL, "embed", EmbedRequest(texts=(SECRET,))), TensorRecord)
            await until(lambda: log.book.tree.size == 2 * len(recorded))
        found = in_clear(log, "public") if recorded else []
    assert {one.function for one in found} == recorded and log.book.tree.size == 2 * len(recorded)
