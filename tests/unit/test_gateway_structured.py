"""What an answer must look like, in all the ways in which clients say it."""

from __future__ import annotations

from typing import Any

import pytest

from ndn_infer.errors import CallError
from ndn_infer.gateway.refusal import Refusal, refusal_of
from ndn_infer.gateway.requests import read_chat, read_completion
from ndn_infer.gateway.tools import held_to
from ndn_infer.records import Sampling, grammar
from ndn_infer.records.grammar import BAD_GRAMMAR, Grammar
from ndn_infer.records.json_schema import closed

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
BOUND = grammar.of_json_schema({**SCHEMA, "additionalProperties": False})
LIST = {"type": "array", "items": {"type": "null"}}


def formatted(inner: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def read(body: dict[str, Any]) -> Grammar | None:
    one = read_chat({**CHAT, **body}, Sampling(9)).asked.sampling.grammar
    assert read_completion({"model": "m", "prompt": "hi", **body}, Sampling(9)).asked.sampling.grammar == one
    return one


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        ({"response_format": None, "structured_outputs": None, "grammar": None}, None),
        ({"response_format": {"type": "text"}, "grammar": "", "structured_outputs": {}}, None),
        ({"response_format": {"type": "json_object"}}, grammar.of_json_object()),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, BOUND),
        (formatted({"name": "x", "schema": SCHEMA, "strict": True}), BOUND),
        (formatted({"schema": SCHEMA, "description": "y"}), BOUND),
        ({"response_format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": False}}, BOUND),
        ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}}, BOUND),
        ({"structured_outputs": {"json": '{"type":"array","items":{"type":"null"}}'}}, grammar.of_json_schema(LIST)),
        ({"structured_outputs": {"json_object": True}}, grammar.of_json_object()),
        ({"structured_outputs": {"regex": "a+", "choice": None}}, grammar.of_regex("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, grammar.of_choice(["a", "b"])),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, grammar.of_gbnf('root ::= "a"')),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, grammar.of_lark('start: "a"')),
        ({"json_schema": SCHEMA}, BOUND),
        ({"grammar": 'root ::= "a"'}, grammar.of_gbnf('root ::= "a"')),
        ({"guided_regex": "a"}, grammar.of_regex("a")),
    ],
    ids=str,
)  # fmt: skip
def test_one_meaning_is_one_grammar(body: dict[str, Any], expected: Grammar | None) -> None:
    assert read(body) == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "sound"}}, "response_format.type"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.schema"),
        (formatted({"name": "x"}), "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "schema": 3}}, "response_format.schema"),
        ({"response_format": {"type": "json_schema", "schema": {"not": {}}}}, "response_format.schema"),
        ({"response_format": {"type": "json_object", "other": 1}}, "response_format.other"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", "a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"json_schema": SCHEMA, "grammar": 'root ::= "a"'}, "grammar"),
        ({"grammar": 7}, "grammar"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused_by_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as told:
        read(body)
    assert (told.value.status, told.value.param) == (400, param)


def test_a_keyword_that_is_not_enforced_is_named() -> None:
    with pytest.raises(Refusal, match="uniqueItems"):
        read({"response_format": {"type": "json_schema", "json_schema": {"schema": {"uniqueItems": True}}}})


def test_tools_beside_a_format() -> None:
    """A JSON format goes with tools: the answer is calls, or that JSON. Another one leaves no place for calls."""
    tool = {"type": "function", "function": {"name": "f"}}
    request = read_chat({**CHAT, "tools": [tool], "response_format": {"type": "json_object"}}, Sampling(9))
    held = held_to(request.tools, request.asked).sampling.grammar
    assert held is not None and held != request.asked.sampling.grammar
    other = read_chat({**CHAT, "tools": [tool], "structured_outputs": {"regex": "[ab]+"}}, Sampling(9))
    with pytest.raises(Refusal, match="tools"):
        held_to(other.tools, other.asked)


def test_what_a_producer_cannot_compile_is_the_clients_fault() -> None:
    refusal = refusal_of(CallError("look-around is not supported", code=BAD_GRAMMAR))
    assert (refusal.status, refusal.code) == (400, "invalid_grammar")


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "required": ["b"]},
        {"$defs": {"x": {"properties": {"a": {}}}}, "allOf": [{"$ref": "#/$defs/x"}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {"properties": {"c": {}}}]},
        {"$defs": {"x": {"properties": {"a": {}}}}, "$ref": "#/$defs/x", "properties": {"b": {}}},
        {"const": {"properties": {"a": {}}}},
        True,
    ],
    ids=str,
)
def test_objects_that_may_have_more_properties_stay_open(schema: Any) -> None:
    assert closed(schema) == schema


def test_objects_are_closed_wherever_they_stand() -> None:
    inner = {"properties": {"a": {}}}
    shut = {**inner, "additionalProperties": False}
    assert closed({"$defs": {"x": inner}, "items": {"anyOf": [{"$ref": "#/$defs/x"}, inner]}}) == {
        "$defs": {"x": shut}, "items": {"anyOf": [{"$ref": "#/$defs/x"}, shut]},
    }  # fmt: skip
