"""The OpenAPI 3.1 document of the gateway: which paths there are, what each takes and gives.

Owns: paths, status codes, who may ask. Pure. Must not know: how a request is read or answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.gateway.openapi.answers import ANSWERS
from ndn_infer.gateway.openapi.completions import CHAT, COMPLETION, DETOKENIZE, EMBEDDING, TOKENIZE
from ndn_infer.gateway.openapi.observed import OBSERVED, Observed, parameters_of
from ndn_infer.gateway.openapi.requests import COUNT, MESSAGES, RESPONSES
from ndn_infer.gateway.openapi.schemas import Schema, either, record, ref, text

_STATUSES: Final[Mapping[int, str]] = {
    400: "The request cannot be served as it stands; `param` names the field.",
    401: "No key, or none of this gateway's.",
    403: "A web page asks without a key, or by a name that is not this gateway's.", 404: "No such model.",
    408: "The body came too slowly.", 413: "The body is too large.", 415: "The body is no application/json.",
    429: "Producers are busy, or this gateway is, or the quota is used up: see Retry-After.", 500: "A defect.",
    502: "What came could not be verified.", 503: "No producer can be reached, or what it needs: see Retry-After.",
    504: "No answer in time.",
}  # fmt: skip
_OF_BODIES: Final = frozenset({400, 408, 413, 415})
"""What a request without a body never meets."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One path with a body: the fields that it may have and those required, the schemas of answer and error. Several
    `bodies`: any of them."""

    summary: str
    bodies: tuple[tuple[Mapping[str, Schema], tuple[str, ...]], ...]
    answer: str
    streams: bool = True
    error: str = "Error"

    @property
    def body(self) -> Schema:
        schemas = [record(fields, required) for fields, required in self.bodies]
        return schemas[0] if len(schemas) == 1 else either(*schemas)


_TEXTS: Final = ("prompt", "messages", "content")
_TOKENIZED: Final = tuple((fields, ("model", name)) for fields, name in zip(TOKENIZE, _TEXTS, strict=True))
OPERATIONS: Final[Mapping[str, Operation]] = {
    "/v1/chat/completions": Operation("Answers to a conversation", ((CHAT, ("model", "messages")),), "ChatCompletion"),
    "/v1/completions": Operation("Continuations of prompts", ((COMPLETION, ("model", "prompt")),), "Completion"),
    "/v1/embeddings": Operation("Vectors of texts", ((EMBEDDING, ("model", "input")),), "Embeddings", streams=False),
    "/v1/responses": Operation("An answer in the form of responses", ((RESPONSES, ("model", "input")),), "Response"),
    "/v1/messages": Operation(
        "An answer in Anthropic's form", ((MESSAGES, ("model", "messages", "max_tokens")),), "Message",
        error="AnthropicError",
    ),
    "/v1/messages/count_tokens": Operation(
        "Tokens of a conversation", ((COUNT, ("model", "messages")),), "TokenCount", streams=False,
        error="AnthropicError",
    ),
    "/tokenize": Operation("Tokens of a text or a conversation", _TOKENIZED, "Tokens", streams=False),
    "/detokenize": Operation("The text of tokens", ((DETOKENIZE, ("model", "tokens")),), "Text", streams=False),
}  # fmt: skip


def openapi(version: str) -> dict[str, Any]:
    """`version`: of this software."""
    paths: dict[str, Any] = {
        "/v1/models": {"get": _read("Models that producers serve", "Models")},
        "/v1/models/{model}": {"get": _read("One model", "Model"), "parameters": [_MODEL_IN_PATH]},
        "/health": {"get": _open("Whether the gateway lives", 200)},
        "/ready": {"get": _open("Whether requests should be sent here", 200, 503)},
        "/openapi.json": {"get": _document()},
        **{path: _observed(path, told) for path, told in OBSERVED.items()},
        **{path: {"post": _asked(operation)} for path, operation in OPERATIONS.items()},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "ndn-infer gateway", "version": version, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"x-api-key": []}],
        "paths": paths,
        "components": {
            "schemas": ANSWERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


_MODEL_IN_PATH: Final[Schema] = {"name": "model", "in": "path", "required": True, "schema": text(120, 1)}


def _asked(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": ref(operation.answer)}}
    if operation.streams:
        content["text/event-stream"] = {"schema": record({"event": text(), "data": text()}, ("data",), open=True)}
    return {
        "summary": operation.summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": operation.body}},
        },
        "responses": {"200": {"description": operation.summary, "content": content}, **_refusals(operation.error)},
    }


def _read(summary: str, answer: str) -> dict[str, Any]:
    told = {"200": {"description": summary, "content": {"application/json": {"schema": ref(answer)}}}}
    refused = {status: one for status, one in _refusals("Error").items() if int(status) not in _OF_BODIES - {400}}
    return {"summary": summary, "responses": {**told, **refused}}


def _open(summary: str, *statuses: int) -> dict[str, Any]:
    told = {"description": summary, "content": {"application/json": {"schema": ref("Status")}}}
    return {"summary": summary, "security": [], "responses": {str(status): told for status in statuses}}


def _observed(path: str, observed: Observed) -> dict[str, Any]:
    told = {"description": observed.summary, "content": {observed.media: {"schema": observed.schema}}}
    statuses = {str(status) for status in (*observed.refused, *(() if observed.open else (401,)))}
    refused = {status: one for status, one in _refusals("Error").items() if status in statuses}
    operation = {"summary": observed.summary, "responses": {"200": told, **refused}}
    if observed.open:
        operation["security"] = []
    parameters = parameters_of(path)
    return {"get": operation, **({"parameters": parameters} if parameters else {})}


def _document() -> dict[str, Any]:
    told = {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"summary": "This document", "security": [], "responses": {"200": told}}


def _refusals(error: str) -> dict[str, Any]:
    content = {"application/json": {"schema": ref(error)}}
    return {str(status): {"description": words, "content": content} for status, words in _STATUSES.items()}
