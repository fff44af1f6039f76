"""tokenize: what cannot fit is refused before it is looked at, and publishing leaves others their turn."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ndn_infer import ndn
from ndn_infer.engine.tokenizer import ChatTokenizer, template_is_dated
from ndn_infer.errors import CallError, PromptError
from ndn_infer.functions.tokenize import Detokenize, Tokenize
from ndn_infer.kv.token_blocks import PUBLISHED_AT_ONCE
from ndn_infer.records import Message, Record, TokenizeRequest, Tokens
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.records.tools import Tool, ToolCall
from ndn_infer.security.domains import PUBLIC
from tests.unit.test_engine_tokenizer import TEMPLATE, byte_tokenizer

CONTEXT = 64
BLOCK = 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 262, "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
}  # fmt: skip


class Server:
    """Counts what is published between two turns of the event loop."""

    def __init__(self) -> None:
        self.store: set[bytes] = set()
        self.most = self.now = 0

    def publish(self, base: bytes, content: bytes, signer: Any) -> None:
        self.store.add(base)
        self.now += 1
        self.most = max(self.most, self.now)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    template = TEMPLATE + "{% if messages[0].content == 'day' %}{{ strftime_now('%d') }}{% endif %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "x"}))
    return tmp_path


def call(kind: type[Any], folder: Path, *requests: Record) -> list[Any]:
    """Answers, or the errors instead; the server last."""

    async def run() -> list[Any]:
        function, server = kind("ab" * 32, folder), Server()
        config = SimpleNamespace(engine=SimpleNamespace(block_tokens=BLOCK))
        host = SimpleNamespace(net=ndn.from_uri("/n"), config=config, server=server, counters=Counter())
        job = SimpleNamespace(host=host, signer=None, domain=PUBLIC)
        await function.start(host, None)
        assert function.max_request_bytes < (1 << 16) + 4 * 8 * 8 * CONTEXT, "nor is more pulled"

        async def others() -> None:
            while True:
                await asyncio.sleep(0)
                server.now = 0

        beside, answers = asyncio.ensure_future(others()), []
        for request in requests:
            try:
                answers.append(await function.run(request, job))
            except (CallError, PromptError) as error:
                answers.append(error)
        beside.cancel()
        return [*answers, server]

    return asyncio.run(run())


def test_what_cannot_fit_is_refused_before_it_is_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of 2.9 MB was cut into 31,000 blocks, which were signed one after another while others waited 11 s."""
    looked: list[int] = []
    monkeypatch.setattr("ndn_infer.engine.tokenizer.ChatTokenizer.encode", lambda self, text: looked.append(1))
    monkeypatch.setattr("ndn_infer.engine.tokenizer.ChatTokenizer.apply_chat", lambda self, said, **_: looked.append(1))
    many = (Message("user", "x" * 100),) * 100
    *errors, server = call(Tokenize, folder, TokenizeRequest(text="x" * 10_000), TokenizeRequest(messages=many))
    assert all("10000 characters" in str(error) for error in errors) and not looked and not server.store


def test_what_does_not_fit_is_not_published(folder: Path) -> None:
    error, fits, server = call(Tokenize, folder, TokenizeRequest(text="x" * 65), TokenizeRequest(text="x" * 64))
    assert "65 tokens" in str(error) and len(fits.ids) == 64
    assert len(server.store) == 32 and server.most <= PUBLISHED_AT_ONCE


def test_what_stands_around_a_text_and_after_messages(folder: Path) -> None:
    said = (Message("user", "hi"),)
    whole, closed, _ = call(Tokenize, folder, TokenizeRequest(said), TokenizeRequest(said, closed=True))
    assert whole.ids[: len(closed.ids)] == closed.ids and len(whole.ids) > len(closed.ids)
    plain, bare, _ = call(Tokenize, folder, TokenizeRequest(text="hi"), TokenizeRequest(text="hi", bare=True))
    assert plain.ids == bare.ids, "this tokenizer puts nothing around a text"


def test_pieces_and_control_tokens_of_ids(folder: Path) -> None:
    tokenizer = ChatTokenizer.load(folder)
    ids = (*tokenizer.encode("hö"), *tokenizer.apply_chat([{"role": "user", "content": "x"}])[:1])
    plain, shown, _ = call(
        Detokenize, folder, DetokenizeRequest(ids), DetokenizeRequest(ids, special=True, pieces=True)
    )
    assert plain == Text("hö") and shown.text.startswith("hö<") and len(shown.text) > 3
    assert len(shown.pieces) == len(ids) and b"".join(shown.pieces) == shown.text.encode()


def test_detokenize_is_bounded_alike(folder: Path) -> None:
    error, text, _ = call(Detokenize, folder, DetokenizeRequest((0,) * 65), DetokenizeRequest((68, 69)))
    assert "65 tokens" in str(error) and text.text


def test_the_day_is_part_of_the_request(folder: Path) -> None:
    """It was the producer's clock, and the answer was remembered for all later days."""
    said = (Message("user", "day"),)
    requests = [TokenizeRequest(said, today=day) for day in ("2026-12-30", "2026-12-31", "", "today", "2026-02-30")]
    one, other, *errors, _ = call(Tokenize, folder, *requests)
    assert template_is_dated(folder)
    assert isinstance(one, Tokens) and isinstance(other, Tokens) and one != other
    assert "date" in str(errors[0]), errors
    assert all("is not a date like 2026-12-31" in str(error) for error in errors[1:]), errors


def test_tools_count_and_are_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of tools and calls is part of the prompt: bounded with it, and parsed before the template has it."""
    said = (Message("user", "x"),)
    long = Tool("f", "x" * 8000)
    deep = Tool("f", parameters='{"a":' * 65 + "{}" + "}" * 65)
    asked = Message("assistant", "", (ToolCall("f", "[1]"),))
    requests = [
        TokenizeRequest(said, tools=(long,)), TokenizeRequest(said, tools=(deep,)), TokenizeRequest((*said, asked)),
        TokenizeRequest(said, tools=(Tool("f", parameters="{NaN"),)),
    ]  # fmt: skip
    *errors, server = call(Tokenize, folder, *requests)
    says = ("8002 characters", "nested deeper than 64", "not a JSON object", "not JSON")
    assert all(words in str(error) for words, error in zip(says, errors, strict=True)), errors
    assert not server.store
    spoken: list[Any] = []
    monkeypatch.setattr(
        "ndn_infer.engine.tokenizer.ChatTokenizer.apply_chat",
        lambda self, said, begin, today, tools: spoken.append((said, tools)) or [],
    )
    made = Message("assistant", "", (ToolCall("f", '{"a": [1]}', "call_1"),))
    result = Message("tool", "7", tool_call_id="call_1")
    call(Tokenize, folder, TokenizeRequest((*said, made, result), tools=(Tool("f"),)))
    [(messages, tools)] = spoken
    function = {"name": "f", "arguments": {"a": [1]}}
    assert messages[1]["tool_calls"] == [{"type": "function", "id": "call_1", "function": function}]
    assert messages[2] == {"role": "tool", "content": "7", "tool_call_id": "call_1"}
    empty = {"type": "object", "properties": {}}
    assert tools == [{"type": "function", "function": {"name": "f", "parameters": empty}}]
