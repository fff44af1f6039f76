"""A grammar record compiled by llguidance.

Owns: the forms that llguidance takes, white space of JSON, the hermes form of tool calls, limits. Must not know:
models, masks, answers. Imported when the first grammar comes, as llguidance is.

JSON is generated with ", " and ": " and no other white space, as Python's json.dumps writes it: a model that may choose
white space can choose it for ever.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark
from llguidance.gbnf_to_lark import gbnf_to_lark

from ndn_infer.errors import UsageError
from ndn_infer.hermes import CLOSE, OPEN
from ndn_infer.records.grammar import Grammar, GrammarTool

_SPACING: Final[Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ASCII: Final = "dws"
"""In a regex these classes are ASCII: a small model takes any digit of Unicode for one."""


LIMITS: Final[dict[str, Any]] = {
    "initial_lexer_fuel": 500_000, "step_lexer_fuel": 100_000, "step_max_items": 50_000, "max_lexer_states": 50_000,
    "max_grammar_size": 200_000, "verbose_errors": False,
}  # fmt: skip
"""About 10 ms for what one mask computes beside what is known already, 50 to 100 MB for one grammar."""
_ERROR_CHARACTERS: Final = 300
_SHOWN: Final = re.compile(r"\s*(\d+ )?[|^]|\.\.\.")
"""Lines in which llguidance shows where in its own form an error stands."""


def compiled(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    """At the beginning of an answer. Raises UsageError: what the grammar has that cannot be obeyed."""
    matcher = LLMatcher(tokenizer, text_of(grammar), log_level=0, limits=LLParserLimits(**LIMITS))
    if matcher.is_error():
        lines = [line for line in matcher.get_error().splitlines() if not _SHOWN.match(line)]
        words = _line(" ".join(lines).partition(". Enable")[0])
        raise UsageError(f"the grammar cannot be compiled: {words}")
    return matcher


def _line(text: str) -> str:
    return " ".join(text.split())[:_ERROR_CHARACTERS]


def text_of(grammar: Grammar) -> str:
    """What an LLMatcher is made of. Raises UsageError."""
    match grammar.kind:
        case "json_schema":
            return _json(grammar.text)
        case "json_object":
            return _json('{"type":"object"}')
        case "regex":
            return _lark(f"start: /{regex_to_lark(grammar.text, _ASCII)}/")
        case "choice":
            return _lark("start: " + " | ".join(map(_quoted, grammar.choices)))
        case "gbnf":
            return _lark(_of_gbnf(grammar.text))
        case "tools":
            return _lark(_of_tools(grammar))
        case _:
            return _lark(grammar.text)


def _json(schema: str) -> str:
    return str(LLMatcher.grammar_from_json_schema(_object(schema), overrides=_SPACING))


def _object(schema: str) -> dict[str, Any]:
    """A schema that can carry options."""
    value = json.loads(schema)
    if value is False:
        raise UsageError("the schema false allows nothing")
    return {} if value is True else dict(value)


def _lark(text: str) -> str:
    return str(LLMatcher.grammar_from_lark(text))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _of_gbnf(text: str) -> str:
    try:
        return str(gbnf_to_lark(text))
    except Exception as error:  # it raises bare Exception for some of what is wrong
        raise UsageError(f"the grammar is not GBNF: {_line(str(error))}") from error


def _of_tools(grammar: Grammar) -> str:
    again = f"({_quoted(f'{chr(10)}{OPEN}')} body)*" if grammar.parallel else ""
    if grammar.required:
        rules = [f"start: {_quoted(OPEN)} body {again}"]
    elif grammar.text:
        rules = [f"start: {_quoted(OPEN)} body {again} | answer", f"answer: {_json_rule(grammar.text)}"]
    else:
        rules = [
            f"start: head body {again} | TEXT",
            f"head[lazy]: /(?s:.*){OPEN}/",
            f"TEXT: /(?s:.*)/ & ~/(?s:.*){OPEN}(?s:.*)/",
        ]
    rules.append(f'body: "\\n" call "\\n{CLOSE}"')
    rules.append("call: " + " | ".join(f"call_{at}" for at in range(len(grammar.tools))))
    for at, tool in enumerate(grammar.tools):
        rules += _of_tool(at, tool)
    return "\n".join(rules)


def _of_tool(at: int, tool: GrammarTool) -> tuple[str, str]:
    opening = f'{{"name": {_quoted(tool.name)}, "arguments": '
    rule = _json_rule(tool.parameters or '{"type":"object"}')
    return f'call_{at}: {_quoted(opening)} args_{at} "}}"', f"args_{at}: {rule}"


def _json_rule(schema: str) -> str:
    return f"%json {json.dumps(_object(schema) | {'x-guidance': _SPACING}, ensure_ascii=False)}"
