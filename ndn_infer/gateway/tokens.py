"""/tokenize and /detokenize, as vLLM has them, and llama.cpp where that does not collide.

Owns: both requests and their answers. Pure. Must not know: HTTP, tokenizers.

vLLM asks with `prompt` or `messages`, and for `token_strs` with `return_token_strs`; llama.cpp asks with `content`,
wants nothing around the text unless `add_special` says so, and each token as id and piece with `with_pieces`. A text is
text here: no part of it becomes a control token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ndn_infer.gateway.chat_tools import read_tools
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.messages import read_messages
from ndn_infer.gateway.prompts import read_ids
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.requests import model_name
from ndn_infer.records import TokenizeRequest
from ndn_infer.records.bounds import MAX_TEXT


@dataclass(frozen=True, slots=True)
class TokenizeQuestion:
    """`param` has the text, for errors. `pieces`: what each token says is wanted; `with_pieces`: beside its id."""

    model: str
    asked: TokenizeRequest
    param: str
    pieces: bool = False
    with_pieces: bool = False


@dataclass(frozen=True, slots=True)
class DetokenizeQuestion:
    model: str
    ids: tuple[int, ...]


def read_tokenize(document: Mapping[str, Any]) -> TokenizeQuestion:
    """Raises Refusal."""
    body = Fields(document)
    model = model_name(body)
    param, *others = [name for name in ("prompt", "messages", "content") if document.get(name) is not None] or [""]
    if not param or others:
        raise bad("one of prompt, messages and content is to be given", param or "prompt")
    read = _of_messages if param == "messages" else _of_text
    question = read(body, model, param)
    body.end()
    return question


def _of_text(body: Fields, model: str, param: str) -> TokenizeQuestion:
    text = text_of(body.take(param), param, MAX_TEXT)
    if not text:
        raise bad(f"{param} is empty", param)
    if param == "prompt":
        asked = TokenizeRequest(text=text, bare=not body.flag("add_special_tokens", True))
        return TokenizeQuestion(model, asked, param, body.flag("return_token_strs"))
    body.only("parse_special", False)
    asked, pieces = TokenizeRequest(text=text, bare=not body.flag("add_special")), body.flag("with_pieces")
    return TokenizeQuestion(model, asked, param, pieces, pieces)


def _of_messages(body: Fields, model: str, param: str) -> TokenizeQuestion:
    messages, tools = read_messages(body), read_tools(body).shown
    asked = TokenizeRequest(messages, closed=not body.flag("add_generation_prompt", True), tools=tools)
    for name in ("continue_final_message", "add_special_tokens"):
        body.only(name, False)
    return TokenizeQuestion(model, asked, param, body.flag("return_token_strs"))


def read_detokenize(document: Mapping[str, Any]) -> DetokenizeQuestion:
    """Raises Refusal."""
    body = Fields(document)
    model, given = model_name(body), body.take("tokens")
    if not isinstance(given, list):
        raise bad("tokens must be an array of token ids", "tokens")
    ids = read_ids(given, "tokens")
    body.end()
    return DetokenizeQuestion(model, ids)


def tokens_document(
    asked: TokenizeQuestion, ids: Sequence[int], pieces: Sequence[bytes], context_tokens: int
) -> dict[str, Any]:
    """`pieces`: bytes of each token, where they are wanted."""
    tokens: list[Any] = list(ids)
    if asked.with_pieces:
        tokens = [{"id": token, "piece": _piece(piece)} for token, piece in zip(ids, pieces, strict=True)]
    strings = [piece.decode("utf-8", "replace") for piece in pieces] if asked.pieces and not asked.with_pieces else None
    return {"count": len(ids), "max_model_len": context_tokens, "tokens": tokens, "token_strs": strings}


def text_document(text: str) -> dict[str, Any]:
    """`prompt` is where vLLM has the text, `content` where llama.cpp has it."""
    return {"prompt": text, "content": text}


def _piece(piece: bytes) -> str | list[int]:
    """As llama.cpp has it: a text, or bytes where it is none."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
