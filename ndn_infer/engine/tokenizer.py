"""Text to token ids and back, as the model's own tokenizer does it.

Owns: text and ids, which ids are control tokens. Must not know: torch, transformers, weights, answers, how a template
is rendered (chat_template.py).

Text is never control: only a chat template puts control tokens between messages. transformers lets a message that says
<|im_end|> end its turn; for all other text the ids are equal to its, and a test compares them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from ndn_infer.engine.chat_template import ChatTemplate, Spoken, is_dated
from ndn_infer.engine.control_tokens import ControlTokens, is_control, texts_within
from ndn_infer.engine.token_bytes import token_bytes_of
from ndn_infer.errors import DamagedCache, ModelError, PromptError

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class ChatTokenizer:
    """A tokenizer with its chat template. Safe to use from several threads."""

    def __init__(
        self, tokenizer: Tokenizer, template: str, special: dict[str, str], eos_ids: tuple[int, ...],
        tool_template: str = "",
    ) -> None:  # fmt: skip
        """`tool_template` is that of conversations with tools, where the model has one of its own for them."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._control = {
            token.content: at for at, token in added.items() if is_control(token.content, token.special)
        }  # fmt: skip
        self._control_ids = frozenset(self._control.values())
        self._texts = ControlTokens(self._control)
        self._around = tokenizer.encode("").ids
        self._template = ChatTemplate(template, special, self._texts) if template else None
        self._tool_template = ChatTemplate(tool_template, special, self._texts) if tool_template else self._template
        self._longest = max(map(len, tokenizer.get_vocab()), default=1)
        self.eos_ids = eos_ids
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self._silent = frozenset(at for at, token in added.items() if token.special)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read tokenizer.json and its companions from a prepared folder. Raises DamagedCache."""
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception for whatever is wrong with the file
            raise DamagedCache(f"{folder / 'tokenizer.json'} cannot be read ({error})") from error
        config = {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}
        special = {name: _token_text(config[name]) for name in _TOKEN_NAMES if config.get(name)}
        ends = _eos_ids(folder, tokenizer, special.get("eos_token"))
        return cls(tokenizer, _template_text(folder, config), special, ends, _named_template(config, "tool_use"))

    def apply_chat(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, today: date | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:  # fmt: skip
        """Token ids of a conversation, as in Spoken. Raises PromptError (empty, or refused by the template), ModelError
        (a model without a template)."""
        text, mark = self._render(Spoken(messages, tools, add_generation_prompt, today))
        return self._ids(text, mark, self._texts.found(text), special=False)

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, today: date | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:  # fmt: skip
        """The text of which `apply_chat` gives the ids."""
        text, mark = self._render(Spoken(messages, tools, add_generation_prompt, today))
        return text.replace(mark, "")

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of plain text; `special` adds what the model wants around a text (often a begin token, often nothing)."""
        mark = self._texts.mark_for([text])
        return self._ids(self._texts.marked(text, mark), mark, [], special=special)

    def most_characters(self, tokens: int) -> int:
        """How long a text of so many tokens can be. A normalizer may compose up to three characters into one."""
        return tokens * self._longest * (1 if self._tokenizer.normalizer is None else 3)

    def _render(self, spoken: Spoken) -> tuple[str, str]:
        """The text of a conversation, with marks; and the mark."""
        template, control = self._tool_template if spoken.tools else self._template, self._texts
        if template is None:
            raise ModelError("this model has no chat template", hint="send plain text instead of messages")
        if not spoken.messages:
            raise PromptError("a conversation needs at least one message")
        texts = [*texts_within(spoken.messages), *texts_within(spoken.tools)]
        mark = control.mark_for(texts)

        def render(edges: bool) -> str:
            messages, tools = (
                control.marked_within(part, mark, edges=edges) for part in (spoken.messages, spoken.tools)
            )
            return template.render(replace(spoken, messages=messages, tools=tools), mark)

        text = render(False)
        if any(map(control.has_edges, texts)):
            # Half a control token at the end of a text, and the template goes on with the other half? Else no mark is
            # wanted there: it would part what the tokenizer takes together.
            strict = render(True)
            if control.found(strict) != control.found(text):
                return strict, mark
        return text, mark

    def _ids(self, text: str, mark: str, expected: list[str], *, special: bool) -> list[int]:
        """Ids of the pieces between marks, with no other control tokens than expected. Raises PromptError."""
        pieces = [piece for piece in text.split(mark) if piece] or [""]
        taken: Any = pieces if len(pieces) > 1 else pieces[0]
        ids: list[int] = self._tokenizer.encode(
            taken, is_pretokenized=len(pieces) > 1, add_special_tokens=special
        ).ids  # fmt: skip
        surplus = Counter(token for token in ids if token in self._control_ids)
        surplus.subtract(self._control[token] for token in expected)
        if special:
            surplus.subtract(self._around)
        if any(count > 0 for count in surplus.values()):
            raise PromptError("this text cannot be distinguished from a control token of the model")
        return ids

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


def template_is_dated(folder: Path) -> bool:
    """Whether the chat template in a prepared folder asks for the day."""
    return is_dated(_template_text(folder, _read_json(folder / "tokenizer_config.json")))


def _template_text(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    template = config.get("chat_template") or ""
    return _named_template(config, "default") if isinstance(template, list) else str(template)


def _named_template(config: dict[str, Any], name: str) -> str:
    """One of several, "" where a model has not this one."""
    several = config.get("chat_template")
    named = several if isinstance(several, list) else []
    return next((str(item["template"]) for item in named if item.get("name") == name), "")


def _eos_ids(folder: Path, tokenizer: Tokenizer, eos_token: str | None) -> tuple[int, ...]:
    """Every id that ends an answer: what generation_config.json says, else config.json, and the tokenizer's own."""
    own = None if eos_token is None else tokenizer.token_to_id(eos_token)
    ids = [] if own is None else [own]
    for name in ("generation_config.json", "config.json"):
        eos = _read_json(folder / name).get("eos_token_id")
        if eos is not None:
            ids = [*(eos if isinstance(eos, list) else [int(eos)]), *ids]
            break
    return tuple(dict.fromkeys(ids))
