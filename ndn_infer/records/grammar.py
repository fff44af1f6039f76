"""A grammar: what an answer must look like, for requests, the engine and every door.

Owns: the record, its bounds, its one canonical form, and builders from what users write. Pure. Must not know: how a
grammar masks tokens (engine/grammar.py), which door it came through, flags.

A grammar is part of the sampling of a request, so of its digest: equal questions with equal grammars are one name. JSON
in it is written in one way (`canonical_json`: no white space, keys in the order given, since the order of properties is
the order in which they are generated).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.records.bounds import AtMost, OneOf
from ndn_infer.records.forms import RecordForm, Request
from ndn_infer.records.json_schema import check_schema

BAD_GRAMMAR: Final = "bad-grammar"
"""The code of a producer that cannot compile a grammar."""
MAX_GRAMMAR_BYTES: Final = 1 << 16
"""Of all texts of one grammar together."""
MAX_CHOICES: Final = 512
MAX_TOOLS: Final = 128
KINDS: Final = ("json_schema", "json_object", "regex", "choice", "gbnf", "lark", "tools")
_TEXTUAL: Final = ("json_schema", "regex", "gbnf", "lark")
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")

Schema = Mapping[str, Any] | bool | str
"""A JSON schema as users have it: read, or its text."""


@dataclass(frozen=True, slots=True)
class GrammarTool(Request):
    """A function that an answer may call. `parameters`: the JSON schema of its arguments, "" for any object."""

    name: Annotated[str, AtMost(128, 1)]
    parameters: Annotated[str, AtMost(MAX_GRAMMAR_BYTES)] = ""


@dataclass(frozen=True, slots=True)
class Grammar(Request):
    """What an answer must be:

    json_schema: JSON that the schema in `text` allows; json_object: any JSON object; regex: all of it matches `text`;
    choice: one of `choices`; gbnf, lark: what the grammar in `text` derives (llama.cpp's form, llguidance's form).

    tools: calls of `tools` in the hermes form, `<tool_call>`, a line of JSON, `</tool_call>`; at once when `required`,
    else after text or not at all; more than one where `parallel`. With the schema in `text` an answer is calls from its
    first character on, or JSON that the schema allows.
    """

    max_bytes: ClassVar[int] = MAX_GRAMMAR_BYTES + (1 << 12)
    kind: Annotated[str, OneOf(KINDS)]
    text: Annotated[str, AtMost(MAX_GRAMMAR_BYTES)] = ""
    choices: Annotated[tuple[Annotated[str, AtMost(4096, 1)], ...], AtMost(MAX_CHOICES)] = ()
    tools: Annotated[tuple[GrammarTool, ...], AtMost(MAX_TOOLS)] = ()
    required: bool = False
    parallel: bool = False

    def check(self) -> None:
        """Raises UsageError in words: out of bounds, not in the canonical form, or a schema that cannot be enforced."""
        try:
            RecordForm.of(Grammar).write(self)
        except BadRecord as error:
            raise UsageError(str(error)) from error
        texts = [self.text, *self.choices, *(text for tool in self.tools for text in (tool.name, tool.parameters))]
        size = sum(len(_utf8(text)) for text in texts)
        if size > MAX_GRAMMAR_BYTES:
            raise UsageError(f"the grammar has {size} bytes, and {MAX_GRAMMAR_BYTES} are the most")
        self._check_shape()
        schemas = [tool.parameters for tool in self.tools if tool.parameters]
        if self.kind == "json_schema" or (self.kind == "tools" and self.text):
            schemas.append(self.text)
        for schema in schemas:
            check_schema(_canonical(schema))

    def _check_shape(self) -> None:
        """Only the fields of its kind are used, so that one meaning has one record."""
        if self.kind == "tools":
            if self.text and self.required:
                raise UsageError("an answer that must be calls has no other form")
        elif bool(self.text) != (self.kind in _TEXTUAL):
            raise UsageError(f"a grammar of the kind {self.kind} {'has no' if self.text else 'needs a'} text")
        if bool(self.choices) != (self.kind == "choice"):
            raise UsageError("choices are for grammars of the kind choice, which have one at least")
        if bool(self.tools) != (self.kind == "tools"):
            raise UsageError("tools are for grammars of the kind tools, which have one at least")
        if self.kind != "tools" and (self.required or self.parallel):
            raise UsageError("required and parallel are for grammars of the kind tools")
        if len(set(self.choices)) < len(self.choices):
            raise UsageError("a choice is there twice")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise UsageError("two tools have one name")
        for name in names:
            if not _TOOL_NAME.fullmatch(name):
                raise UsageError(f"a tool's name has letters, digits, _, . and - only, not {name[:80]!r}")


# ---------------------------------------------------------------- builders


def of_json_schema(schema: Schema) -> Grammar:
    """All builders raise UsageError, which names the keyword or the reason."""
    return _checked(Grammar("json_schema", canonical_json(schema)))


def of_json_object() -> Grammar:
    return Grammar("json_object")


def of_regex(text: str) -> Grammar:
    """In the syntax of Rust's regex crate: without look-around and back references; it matches the whole answer."""
    return _checked(Grammar("regex", text))


def of_choice(texts: Iterable[str]) -> Grammar:
    return _checked(Grammar("choice", choices=tuple(texts)))


def of_gbnf(text: str) -> Grammar:
    return _checked(Grammar("gbnf", text))


def of_lark(text: str) -> Grammar:
    return _checked(Grammar("lark", text))


def of_tools(
    tools: Sequence[tuple[str, Schema | None]], *, required: bool = False, parallel: bool = False,
    otherwise: Grammar | None = None,
) -> Grammar:  # fmt: skip
    """`tools`: (name, schema of the arguments, None for any object). `otherwise`: what an answer without calls must be,
    JSON; where calls are required there is none."""
    given = tuple(GrammarTool(name, "" if schema is None else canonical_json(schema)) for name, schema in tools)
    text = "" if required or otherwise is None else _json_of(otherwise)
    return _checked(Grammar("tools", text, tools=given, required=required, parallel=parallel))


def _json_of(grammar: Grammar) -> str:
    if grammar.kind not in ("json_schema", "json_object"):
        raise UsageError(f"beside tools an answer may be held to JSON, and not to a {grammar.kind}")
    return grammar.text or canonical_json({"type": "object"})


def _checked(grammar: Grammar) -> Grammar:
    grammar.check()
    return grammar


# ---------------------------------------------------------------- JSON in one form


def schema_of(schema: Schema) -> Mapping[str, Any] | bool:
    """A schema that may have come as text. Raises UsageError."""
    value = _read(schema) if isinstance(schema, str) else schema
    if not isinstance(value, Mapping | bool):
        raise UsageError("a JSON schema is an object, true or false")
    return value


def canonical_json(schema: Schema) -> str:
    """The canonical text of a schema: an object or a bool, or the text of one. Raises UsageError."""
    value = schema_of(schema)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the schema is not JSON: {error}") from error
    _utf8(text)
    return text


def _canonical(text: str) -> Any:
    """The value of a text that is canonical. Raises UsageError."""
    value = schema_of(text)
    if canonical_json(value) != text:
        raise UsageError("the schema is not in its canonical form (no white space, no key twice)")
    return value


def _read(text: str) -> Any:
    if len(text) > MAX_GRAMMAR_BYTES:
        raise UsageError(f"the grammar has more than {MAX_GRAMMAR_BYTES} bytes")
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except RecursionError as error:
        raise UsageError("the schema is nested too deep") from error
    except ValueError as error:
        raise UsageError(f"the schema is not JSON: {error}") from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the grammar is not Unicode text (character {error.start + 1})") from error
