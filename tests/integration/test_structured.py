"""Answers within a grammar over a running network: at the gateway, from the command line, by the library; and what
cannot be obeyed is refused before anything is computed. `jsonschema` judges what comes out."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from openai import OpenAI

import ndn_infer
from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, gateway, run_network

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct"
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 24},
        "born": {"type": "integer", "minimum": 1000, "maximum": 2025},
        "fields": {"type": "array", "items": {"enum": ["art", "science", "politics"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "born", "fields"],
}
SCHEMAS: list[dict[str, Any]] = [
    PERSON,
    {"$defs": {"day": {"type": "string", "format": "date"}}, "type": "array", "items": {"$ref": "#/$defs/day"},
     "minItems": 2, "maxItems": 2},
    {"anyOf": [{"const": "unknown"}, {"type": "number", "minimum": 0, "multipleOf": 0.5, "maximum": 40}]},
]  # fmt: skip
HOSTILE = {"allOf": [{"type": "string", "pattern": f"^(a|b)*a(a|b){{{at}}}(a|b)*$"} for at in range(20, 40)]}


@pytest.fixture(scope="module")
def network(
    smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    directory = tmp_path_factory.mktemp("net")
    with run_network(directory, model_cache, "--functions", "tokenize,prefill,decode") as running:
        yield running


@pytest.fixture(scope="module")
def client(network: RunningNetwork) -> Iterator[OpenAI]:
    with gateway(network) as (url, _):
        yield OpenAI(base_url=url, api_key="none", max_retries=0)


def ask(client: OpenAI, text: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=MODEL, messages=messages, **{"max_tokens": 100, **more})


def format_of(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: next(iter(schema)))
def test_what_comes_obeys_its_schema(client: OpenAI, schema: dict[str, Any]) -> None:
    """Greedy and by chance, whole and as a stream."""
    for how in ({}, {"temperature": 1.2, "seed": 4}):
        whole = ask(client, "Tell me about Ada Lovelace.", response_format=format_of(schema), **how).choices[0]
        assert whole.finish_reason == "stop"
        jsonschema.validate(json.loads(whole.message.content), schema)
        chunks = ask(client, "Tell me about Ada Lovelace.", response_format=format_of(schema), stream=True, **how)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content


def test_regex_choice_and_any_object(client: OpenAI) -> None:
    word = ask(client, "A word?", extra_body={"structured_outputs": {"regex": "[a-z]{3,8}!"}}).choices[0]
    assert re.fullmatch("[a-z]{3,8}!", word.message.content)
    sure = ask(client, "Is ice cold?", extra_body={"structured_outputs": {"choice": ["yes", "no"]}}).choices[0]
    assert sure.message.content in ("yes", "no") and sure.finish_reason == "stop"
    cut = ask(client, "An object", response_format={"type": "json_object"}, max_tokens=30).choices[0]
    assert cut.message.content.startswith("{") and (cut.finish_reason == "length" or json.loads(cut.message.content))


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_obeyed_is_refused_with_its_reason(client: OpenAI, stream: bool) -> None:
    for schema, words in (
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "pattern": "^(?!a)"}, "look-around"),
        ({"type": "string", "format": "no-such-format"}, "no-such-format"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            for _ in ask(client, "x", response_format=format_of(schema), stream=stream):
                pass


def test_a_hostile_grammar_costs_its_asker_and_nobody_else(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="too long|regex"):
        ask(client, "x", response_format=format_of(HOSTILE))
    assert "Paris" in ask(client, "What is the capital of France?").choices[0].message.content


def test_from_the_command_line(network: RunningNetwork, tmp_path: Path) -> None:
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON))
    answer = network.ask("Tell me about Ada Lovelace.", "--json-schema", str(file))
    jsonschema.validate(json.loads(answer["text"]), PERSON)
    again = network.ask("Tell me about Ada Lovelace.", "--json-schema", json.dumps(PERSON))
    assert again["stored"], "an equal grammar is an equal question"
    assert network.ask("Is ice cold?", "--choice", "yes", "--choice", "no")["text"] in ("yes", "no")
    refused = network.run("ask", "--no-embedded", "--json-schema", '{"not": {}}', "x")
    assert refused.returncode == 2 and "the keyword not" in refused.stderr


async def test_by_the_library(network: RunningNetwork) -> None:
    settings = {"network.transport": f"unix://{network.socket}", "network.net": "/ndn-infer/local",
                "paths.data_dir": str(network.home / ".local" / "share" / "ndn-infer")}  # fmt: skip
    async with asyncio.timeout(60), ndn_infer.connect(settings=settings) as connection:
        text = await connection.chat("Tell me about Ada Lovelace.", schema=PERSON).read()
        jsonschema.validate(json.loads(text), PERSON)
        assert await connection.chat("Is ice cold?", choices=["cold", "hot"]).read() in ("cold", "hot")
