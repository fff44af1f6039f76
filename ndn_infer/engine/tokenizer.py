"""Text to token ids and back, as the model's own tokenizer does it.

Owns: the chat template, text and ids. Must not know: torch, transformers, weights, answers. The template
is rendered as transformers renders it (chat_template_utils.py of 5.23: sandboxed Jinja, same filters and globals), so
that ids are equal; a test compares them. Templates come with a model, that is from strangers: hence the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from ndn_infer.engine.token_bytes import token_bytes_of
from ndn_infer.errors import DamagedCache, ModelError, PromptError

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class ChatTokenizer:
    """A tokenizer with its chat template. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, template: str, special: dict[str, str], eos_ids: tuple[int, ...]) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._special = special
        self._template = _environment().from_string(template) if template else None
        self.eos_ids = eos_ids
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self._silent = frozenset(at for at, token in tokenizer.get_added_tokens_decoder().items() if token.special)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read tokenizer.json and its companions from a prepared folder. Raises DamagedCache."""
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with the file
            raise DamagedCache(f"{folder / 'tokenizer.json'} cannot be read ({error})") from error
        config = {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}
        special = {name: _token_text(config[name]) for name in _TOKEN_NAMES if config.get(name)}
        return cls(tokenizer, _template_text(folder, config), special, _eos_ids(folder))

    def apply_chat(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation of {"role", "content"}. Raises PromptError (empty, or refused by the template),
        ModelError (a model without a template)."""
        return self.encode(self.render_chat(messages, add_generation_prompt), special=False)

    def render_chat(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of which `apply_chat` gives the ids."""
        if self._template is None:
            raise ModelError("this model has no chat template", hint="send plain text instead of messages")
        if not messages:
            raise PromptError("a conversation needs at least one message")
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except (TemplateError, TypeError, ArithmeticError, LookupError) as error:
            raise PromptError(f"the model's chat template refuses this conversation: {error}") from error

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of plain text; `special` adds what the model wants around a text (often a begin token, often nothing)."""
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD. Raises PromptError for ids outside the vocabulary."""
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise PromptError(f"token ids of this model are 0 to {self.vocab_size - 1}")
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    @cached_property
    def token_bytes(self) -> Callable[[int], bytes]:
        """The bytes of a token by its id: see token_bytes.py."""
        return token_bytes_of(self._tokenizer)

    def shows(self, token: int, skip_special: bool = True) -> bool:
        """Whether an id has a text of its own: vocabularies of weights are padded with ids that have none."""
        if skip_special and token in self._silent:
            return False
        return 0 <= token < self.vocab_size and self._tokenizer.id_to_token(token) is not None


# ------------------------------------------------------------ files of a model folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DamagedCache(f"{path} cannot be read ({error})") from error
    return value if isinstance(value, dict) else {}


def _token_text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _template_text(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    template = config.get("chat_template") or ""
    if isinstance(template, list):  # several named ones
        template = next((item["template"] for item in template if item.get("name") == "default"), "")
    return str(template)


def _eos_ids(folder: Path) -> tuple[int, ...]:
    for name in ("generation_config.json", "config.json"):
        eos = _read_json(folder / name).get("eos_token_id")
        if eos is not None:
            return tuple(eos) if isinstance(eos, list) else (int(eos),)
    return ()


# ------------------------------------------------------------ the template language


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
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own filter escapes HTML, which a prompt must not have."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
