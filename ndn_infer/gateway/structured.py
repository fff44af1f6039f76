"""What an answer must look like, from the ways in which clients say it to a grammar.

Owns: OpenAI's response formats, vLLM's structured outputs, llama.cpp's `json_schema` and `grammar`. Pure. Must not
know: which form of the API they came through, tools (tools.py), how a grammar is obeyed.

A schema is always obeyed, `strict` or not; one that cannot be is refused, which names the keyword. Objects whose schema
lists properties and says nothing of others have no others, as elsewhere: a small model would go on inventing some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ndn_infer.errors import UsageError
from ndn_infer.gateway.fields import Fields, shown, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.records import grammar
from ndn_infer.records.grammar import MAX_GRAMMAR_BYTES, Grammar
from ndn_infer.records.json_schema import closed

MAX_NAME: Final = 256
_IGNORED: Final = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern", "_backend")
"""How vLLM's backends are to work; here there is one way, with bounded white space."""


def read_grammar(body: Fields) -> Grammar | None:
    """Whichever of them a request has; one at most. Raises Refusal."""
    found = {
        name: made
        for name, read in _READERS.items()
        if (value := body.take(name)) is not None and (made := read(value, body.path(name))) is not None
    }
    if len(found) > 1:
        first, second, *_ = found
        raise bad(f"{first} and {second} both say what the answer must look like: leave one of them out", second)
    return next(iter(found.values()), None)


def of_format(value: Any, where: str) -> Grammar | None:
    """A response format, None for `text`: {"type": "json_schema"} with name, schema and strict in it, or in its field
    `json_schema` as chat completions have it; {"type": "json_object"}, also with a schema. Raises Refusal."""
    given = Fields.of(value, where)
    match given.take("type"):
        case "text":
            made = None
        case "json_schema":
            inner = given.object("json_schema")
            made = _named_schema(given if inner is None else Fields(inner, f"{where}.json_schema."))
        case "json_object":
            schema = given.take("schema")
            made = grammar.of_json_object() if schema is None else _schema(schema, f"{where}.schema")
        case other:
            raise bad(f"{where}.type must be text, json_schema or json_object, not {shown(other)}", f"{where}.type")
    given.end()
    return made


def _named_schema(given: Fields) -> Grammar:
    given.text("name", MAX_NAME)
    given.text("description")
    given.flag("strict")
    where, schema = given.path("schema"), given.take("schema")
    if schema is None:
        raise bad(f"{where} is missing", where)
    given.end()
    return _schema(schema, where)


def _structured_outputs(value: Any, where: str) -> Grammar | None:
    """As vLLM has them."""
    given = Fields.of(value, where)
    for name in _IGNORED:
        given.take(name)
    given.only("structural_tag", instead="tools")
    found = [(name, read) for name, read in _OUTPUTS.items() if given.look(name) is not None]
    if len(found) > 1:
        raise bad(f"{where} has both {found[0][0]} and {found[1][0]}: leave one of them out", where)
    made = [read(given.take(name), given.path(name)) for name, read in found]
    for name in _OUTPUTS:
        given.take(name)  # null
    given.end()
    return made[0] if made else None


def _schema(value: Any, where: str) -> Grammar:
    """A schema, or its text."""
    if not isinstance(value, Mapping | bool | str):
        raise bad(f"{where} must be a JSON schema", where)
    return _made(lambda: grammar.of_json_schema(closed(grammar.schema_of(value))), where)


def _object(value: Any, where: str) -> Grammar | None:
    if not isinstance(value, bool):
        raise bad(f"{where} must be true or false", where)
    return grammar.of_json_object() if value else None


def _regex(value: Any, where: str) -> Grammar:
    text = text_of(value, where, MAX_GRAMMAR_BYTES)
    return _made(lambda: grammar.of_regex(text), where)


def _choice(value: Any, where: str) -> Grammar:
    if not isinstance(value, list) or not value:
        raise bad(f"{where} must be an array of texts", where)
    texts = [text_of(item, where, MAX_GRAMMAR_BYTES) for item in value[: grammar.MAX_CHOICES + 1]]
    return _made(lambda: grammar.of_choice(texts), where)


def _grammar(value: Any, where: str) -> Grammar | None:
    """GBNF, as llama.cpp and xgrammar have it, or llguidance's Lark. An empty one asks for nothing."""
    text = text_of(value, where, MAX_GRAMMAR_BYTES)
    if not text.strip():
        return None
    return _made(lambda: grammar.of_gbnf(text) if "::=" in text else grammar.of_lark(text), where)


def _made(make: Callable[[], Grammar], where: str) -> Grammar:
    try:
        return make()
    except UsageError as error:
        raise bad(f"{where}: {error}", where, "invalid_grammar") from error


_Read = Callable[[Any, str], Grammar | None]
_OUTPUTS: Final[Mapping[str, _Read]] = {
    "json": _schema, "regex": _regex, "choice": _choice, "grammar": _grammar, "json_object": _object,
}  # fmt: skip
_READERS: Final[Mapping[str, _Read]] = {
    "response_format": of_format, "structured_outputs": _structured_outputs, "json_schema": _schema,
    "grammar": _grammar, "guided_json": _schema, "guided_regex": _regex, "guided_choice": _choice,
    "guided_grammar": _grammar,
}  # fmt: skip
