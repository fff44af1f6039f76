"""Text to token ids and back, as the model's own tokenizer does it; text of a growing answer; stop strings.

Owns: the chat template, incremental decoding, stop strings. Must not know: torch, transformers, weights. The template
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
_BROKEN = "\ufffd"


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


class StreamDecoder:
    """Text of a stream of ids, piece by piece: never half a character; all pieces joined equal `decode` of all ids."""

    def __init__(self, tokenizer: ChatTokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        # Tokenizers of the SentencePiece kind treat the first token of a text in another way, so the last token that
        # was shown stays in the window: `_window` holds ids, of which `_shown` characters are out already.
        self._window: list[int] = []
        self._shown = 0
        self._pending = 0

    def push(self, token: int) -> str:
        """The text that `token` completes, "" while a character is incomplete."""
        self._window.append(token)
        self._pending += 1
        text = self._tokenizer.decode(self._window, self._skip_special)
        if text.endswith(_BROKEN):
            return ""
        piece = text[self._shown :]
        self._window = self._window[-self._pending :]
        self._shown = len(self._tokenizer.decode(self._window, self._skip_special))
        self._pending = 0
        return piece

    def finish(self) -> str:
        """What was held back: an incomplete character becomes U+FFFD."""
        piece = self._tokenizer.decode(self._window, self._skip_special)[self._shown :]
        self._window, self._shown, self._pending = [], 0, 0
        return piece


class StopMatcher:
    """Ends a text before the first stop string, however the text is cut into pieces.

    The first is the one that ends first; of two that end together, the longer.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """(text that may be shown, whether a stop string was found). Text which may be the beginning of a stop string
        is held back; the stop string itself and what follows is dropped."""
        if self.stopped:
            return "", True
        text, self._held = self._held + text, ""
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)[1]], True
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def finish(self) -> str:
        """The text held back, when the answer ended otherwise."""
        held, self._held = self._held, ""
        return "" if self.stopped else held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


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
