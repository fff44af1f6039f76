"""Text to token ids and back, without torch or transformers.

Owns: the chat template, encoding, decoding whole and token by token, and stop strings. Must not know: models. The
template is rendered with the same Jinja settings as transformers uses (utils/chat_template_utils.py), in its sandbox.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Never

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from ndn_infer.errors import DamagedCache, PromptError

_REPLACEMENT: Final = "\ufffd"
MAX_PENDING_TOKENS: Final = 16
"""A character spans a few tokens at most: after so many the decoder stops waiting for its end."""


class ChatTokenizer:
    """The tokenizer of one prepared model folder. `eos_ids` are the ids that end an answer."""

    def __init__(self, tokenizer: Tokenizer, template: str, special: dict[str, str], eos_ids: tuple[int, ...]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self.eos_ids = eos_ids
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._template = environment.from_string(template) if template else None

    @classmethod
    def load(cls, folder: Path) -> ChatTokenizer:
        """Raises DamagedCache when the folder's tokenizer files cannot be read."""
        try:
            settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
            model: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise DamagedCache(f"the tokenizer in {folder} cannot be read: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        path = folder / "chat_template.jinja"
        template = path.read_text("utf-8") if path.is_file() else settings.get("chat_template") or ""
        special = {
            key: _content(settings[key])
            for key in ("bos_token", "eos_token", "pad_token", "unk_token")
            if settings.get(key)
        }
        return cls(tokenizer, template, special, _eos_ids(model, tokenizer, special))

    def apply_chat(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation. `messages` hold "role" and "content". Raises PromptError from the template."""
        if self._template is None:
            raise PromptError("this model has no chat template")
        try:
            text = self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **self._special
            )
        except (TemplateError, TypeError) as error:
            raise PromptError(f"the chat template refuses this conversation: {error}") from error
        return self.encode(text, add_special=False)

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """Token ids of a text as it stands."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)
        return text


class StreamDecoder:
    """Text of a growing sequence of ids: what `push` and `finish` return, joined, is the text of all ids.

    Keeps a window of recent ids only, since a token's text may depend on the one before it and may end in the middle
    of a character.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._emitted = 0

    def push(self, token: int) -> str:
        """The text that became final with this token; "" while a character is incomplete."""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        incomplete = text.endswith(_REPLACEMENT) and len(self._window) < MAX_PENDING_TOKENS + self._settled_tokens()
        if incomplete:
            return ""
        new = text[self._emitted :]
        self._keep_last(token)
        return new

    def _settled_tokens(self) -> int:
        return 1 if self._emitted else 0

    def _keep_last(self, token: int) -> None:
        self._window = [token]
        self._emitted = len(self._tokenizer.decode(self._window))

    def finish(self) -> str:
        """What is left, complete or not."""
        new = self._tokenizer.decode(self._window)[self._emitted :]
        self._window, self._emitted = [], 0
        return new


class StopMatcher:
    """Cuts a stream of text before the first of `stops`; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """(text to emit, whether a stop string was met). After a stop nothing more is emitted."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            emit, self._held = self._held[: min(found)], ""
            return emit, True
        keep = self._longest_beginning()
        cut = len(self._held) - keep
        emit, self._held = self._held[:cut], self._held[cut:]
        return emit, False

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest

    def finish(self) -> str:
        """The held text, once it is sure that no stop string follows."""
        held, self._held = self._held, ""
        return held


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _eos_ids(model: dict[str, Any], tokenizer: Tokenizer, special: dict[str, str]) -> tuple[int, ...]:
    declared = model.get("eos_token_id")
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    if special.get("eos_token"):
        ids.append(tokenizer.token_to_id(special["eos_token"]))
    return tuple(dict.fromkeys(token for token in ids if token is not None))


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> Never:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
