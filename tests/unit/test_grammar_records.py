"""Grammar records: one form for one meaning, bounds, and schemas refused by the keyword that would not be enforced."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import records
from ndn_infer.errors import UsageError
from ndn_infer.records import GenerateRequest, Sampling, grammar
from ndn_infer.records.grammar import Grammar, GrammarTool
from ndn_infer.records.json_schema import ENFORCED, REFUSED, SAYS_NOTHING

DRAFT7 = "http://json-schema.org/draft-07/schema#"
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(-(1 << 40), 1 << 40) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_schema_has_one_canonical_text_however_it_was_written(value: Any) -> None:
    schema = {"const": value}
    text = grammar.canonical_json(schema)
    for written in (json.dumps(schema, indent=3), json.dumps(schema, ensure_ascii=False), text):
        assert grammar.canonical_json(written) == text
    assert json.loads(text) == schema


def test_the_order_of_properties_is_part_of_a_grammar() -> None:
    one, other = ({"properties": {name: {} for name in names}} for names in ("ab", "ba"))
    assert grammar.of_json_schema(one) != grammar.of_json_schema(other)


def test_a_grammar_is_part_of_the_digest_of_a_request() -> None:
    plain = GenerateRequest(Sampling(8), prompt=(1, 2))
    bound = GenerateRequest(Sampling(8, grammar=grammar.of_regex("a+")), prompt=(1, 2))
    assert records.encode(plain) != records.encode(bound)
    assert records.decode(GenerateRequest, records.encode(bound)) == bound


@pytest.mark.parametrize(
    "bad",
    [
        Grammar("json_schema", '{"type": "null"}'),  # not canonical
        Grammar("json_schema", '{"a":1,"a":1}'),
        Grammar("json_schema", "[]"),
        Grammar("json_schema"),
        Grammar("json_object", "{}"),
        Grammar("regex", "a", choices=("a",)),
        Grammar("regex", "a", required=True),
        Grammar("choice"),
        Grammar("choice", choices=("a", "a")),
        Grammar("choice", choices=("\ud800",)),
        Grammar("choice", choices=("a" * 4096,) * 17),
        Grammar("tools"),
        Grammar("tools", tools=(GrammarTool("a b"),)),
        Grammar("tools", "{}", tools=(GrammarTool("a"),), required=True),
        Grammar("tools", '{"not":{}}', tools=(GrammarTool("a"),)),
        Grammar("tools", "no JSON", tools=(GrammarTool("a"),)),
        Grammar("tools", tools=(GrammarTool("a"), GrammarTool("a", "true"))),
        Grammar("tools", tools=(GrammarTool("a", '{"not":{}}'),)),
        Grammar("none of these", "x"),
        Grammar("regex", "a" * (1 << 16) + "b"),
    ],
    ids=lambda bad: f"{bad.kind} {bad.text[:20]}",
)
def test_what_is_no_grammar_is_refused(bad: Grammar) -> None:
    with pytest.raises(UsageError):
        bad.check()


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_a_keyword_that_is_not_enforced_is_named(keyword: str) -> None:
    with pytest.raises(UsageError, match=rf"{keyword.replace('$', '.')} \(#/properties/x/items\)"):
        grammar.of_json_schema({"properties": {"x": {"items": {keyword: {}}}}})


def test_names_and_values_are_no_keywords() -> None:
    for schema in (
        {"properties": {"not": {"type": "null"}, "$ref": {}}, "required": ["if"]},
        {"const": {"not": 1}, "default": {"if": 1}, "examples": [{"then": 1}], "x-order": {"else": 1}},
        {"$defs": {"contains": {"enum": [{"uniqueItems": True}]}}, "$ref": "#/$defs/contains"},
    ):
        grammar.of_json_schema(schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$schema": "https://example.org/mine"}, "none of the drafts"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "none of the drafts"),
        ({"$schema": DRAFT7, "$ref": "#/definitions/a", "maxItems": 1, "definitions": {"a": {}}}, "ignores maxItems"),
        ({"items": [{}]}, "older drafts"),
        ({"items": {}, "additionalItems": False}, "additionalItems"),
        ({"$ref": "https://example.org/x"}, "does not lead"),
        ({"$ref": "#/const/a", "const": {"a": {"not": {}}}}, "does not lead"),
        ({"$ref": "#name"}, "does not lead"),
        ({"properties": {"a": {"$id": "x"}}}, "identity"),
        ({"minProperties": 2}, "minProperties"),
        ({"minimum": (1 << 53) + 1}, "digits"),
        ({"enum": [[{"a": 1 << 60}]]}, "digits"),
        ({"multipleOf": 0}, "above 0"),
        ({"multipleOf": 10007}, "multipleOf"),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, "multipleOf"),
        ({"anyOf": {}}, "must be a list"),
        ({"properties": []}, "must be an object"),
        ({"items": 3}, "must be a schema"),
        (json.loads('{"items":' * 70 + "{}" + "}" * 70), "deep"),
        ({"anyOf": [{}] * 10_001}, "parts"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_would_be_enforced_wrongly_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grammar.of_json_schema(schema)


def test_what_is_enforced_is_taken() -> None:
    for schema in (
        {"$schema": DRAFT7, "items": [{}], "additionalItems": False},
        {"minProperties": 2, "required": ["a", "b"]},
        {"multipleOf": 0.01},
        {"multipleOf": 5000},
        {"$ref": "#/properties/a/items/0", "properties": {"a": {"items": {"prefixItems": [{}]}}}},
        True,
    ):
        grammar.of_json_schema(schema)
    assert not ENFORCED & REFUSED
    assert not ENFORCED & SAYS_NOTHING
    assert not SAYS_NOTHING & REFUSED


def test_a_text_too_deep_for_a_parser_is_a_refusal() -> None:
    with pytest.raises(UsageError):
        grammar.of_json_schema('{"items":' * 20_000 + "{}" + "}" * 20_000)
