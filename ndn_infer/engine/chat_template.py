"""A model's chat template: the text of a conversation, with its control tokens, from messages.

Owns: the template language, the day that a template may ask for, what a template looks for in messages. Must not know:
ids, tokenizers. Templates are rendered as transformers renders them (chat_template_utils.py of 5.23: sandboxed Jinja,
same filters and globals), so that ids are equal; a test compares. They come with a model, that is from strangers: hence
the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ndn_infer.engine.control_tokens import ControlTokens, unescaped
from ndn_infer.engine.tool_prompt import as_text, has_calls
from ndn_infer.errors import PromptError

_SEARCHING: Final = frozenset(
    {"count", "endswith", "find", "index", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex",
     "rpartition", "rsplit", "split", "startswith"}
)  # fmt: skip
"""Methods of str whose first argument is looked for."""


def is_dated(source: str) -> bool:
    """Whether a template asks what day it is."""
    return "strftime_now" in source


@dataclass(frozen=True, slots=True)
class Spoken:
    """A conversation as templates get it: messages and tools in the form of OpenAI's API, arguments and schemas as
    objects (tool_prompt.py). `today` is for templates that are dated."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    add_generation_prompt: bool = True
    today: date | None = None

    def strftime_now(self, form: str) -> str:
        if self.today is None:
            raise PromptError("this model's chat template needs the date, and the request has none")
        return self.today.strftime(form)


class ChatTemplate:
    """`special` are the tokens that templates know by name, such as bos_token."""

    def __init__(self, source: str, special: dict[str, str], control: ControlTokens) -> None:
        self._environment = _environment()
        self._source = source
        self._special = special
        self._control = control
        self._templates: dict[str, Template] = {}

    @cached_property
    def knows_tools(self) -> bool:
        """Whether it shows tools and calls by itself."""
        try:
            tree = self._environment.parse(self._source)
        except TemplateError:
            return False  # it is refused when it is rendered
        return "tools" in meta.find_undeclared_variables(tree) and "tool_calls" in self._source

    def render(self, spoken: Spoken, mark: str) -> str:
        """The text of a conversation whose texts have `mark` where they would be control tokens. A template that looks
        for one in a message finds it. Where the template does not know tools, they are text of messages. Raises
        PromptError: refused by the template, or without a day."""
        messages, tools = spoken.messages, spoken.tools
        if (tools or has_calls(messages)) and not self.knows_tools:
            messages, tools = as_text(messages, tools), ()
        try:
            return self._template(mark).render(
                messages=[dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                documents=None,
                add_generation_prompt=spoken.add_generation_prompt,
                strftime_now=spoken.strftime_now,
                **self._special,
            )
        except (TemplateError, TypeError, ArithmeticError, LookupError) as error:
            raise PromptError(f"the model's chat template refuses this conversation: {error}") from error

    def _template(self, mark: str) -> Template:
        template = self._templates.get(mark)
        if template is None:
            tree = _Looking(self._control, mark).visit(self._environment.parse(self._source))
            template = self._templates[mark] = self._environment.from_string(tree)
        return template


class _Looking(NodeTransformer):
    """Constants that a template looks for in messages get the marks that messages have. What it puts out has none."""

    def __init__(self, control: ControlTokens, mark: str) -> None:
        self._control = control
        self._mark = mark

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = self._marked(node.expr)
        for operand in node.ops:
            operand.expr = self._marked(operand.expr)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Call:
        self.generic_visit(node)
        if isinstance(node.node, nodes.Getattr) and node.node.attr in _SEARCHING and node.args:
            node.args[0] = self._marked(node.args[0])
        return node

    def _marked(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            return nodes.Const(self._control.marked(node.value, self._mark), lineno=node.lineno)
        return node


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text for training; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own filter escapes HTML, which a prompt must not have."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return unescaped(text) if ensure_ascii else text


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
