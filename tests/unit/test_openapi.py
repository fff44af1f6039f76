"""/openapi.json says what the gateway does: every path, and the fields of each body as its reader takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema
import pytest

from ndn_infer.gateway.anthropic import read_anthropic, read_count
from ndn_infer.gateway.fields import Fields
from ndn_infer.gateway.metering import Metering
from ndn_infer.gateway.openapi.document import OPERATIONS, openapi
from ndn_infer.gateway.openapi.schemas import record
from ndn_infer.gateway.page.routes import Page
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.requests import read_chat, read_completion
from ndn_infer.gateway.responses import read_responses
from ndn_infer.gateway.routes import ROUTES
from ndn_infer.gateway.tokens import read_detokenize, read_tokenize
from ndn_infer.gateway.vectors import read_embedding
from ndn_infer.metrics.meters import Meters
from ndn_infer.records import Sampling

Read = Callable[[Mapping[str, Any]], object]
DEFAULTS = Sampling()
HI: Any = [{"role": "user", "content": "hi"}]


def with_defaults(read: Callable[[Mapping[str, Any], Sampling], object]) -> Read:
    return lambda document: read(document, DEFAULTS)


# Each path with its reader, and bodies that between them lead through all that it reads.
CASES: dict[str, tuple[Read, list[dict[str, Any]]]] = {
    "/v1/chat/completions": (with_defaults(read_chat), [{"messages": HI}]),
    "/v1/completions": (with_defaults(read_completion), [{"prompt": "hi"}]),
    "/v1/embeddings": (read_embedding, [{"input": "hi"}]),
    "/v1/responses": (with_defaults(read_responses), [{"input": "hi"}]),
    "/v1/messages": (with_defaults(read_anthropic), [{"messages": HI, "max_tokens": 1}]),
    "/v1/messages/count_tokens": (with_defaults(read_count), [{"messages": HI}]),
    "/tokenize": (read_tokenize, [{"prompt": "hi"}, {"messages": HI}, {"content": "hi"}]),
    "/detokenize": (read_detokenize, [{"tokens": [1]}]),
}


def plain(path: str) -> str:
    """Without the forms of what is in it."""
    return re.sub(r":[^/]*?\}(?=/|$)", "}", path)


def test_every_path_is_described() -> None:
    described = {(method.upper(), path) for path, operations in openapi("1")["paths"].items()
                 for method in operations if method != "parameters"}  # fmt: skip
    made: Any = object()  # what their handlers need is not asked for
    page = [route for route in Page(made, made, "", keyed=False).routes() if route.path.startswith("/network/")]
    routes = [*ROUTES, *page, Metering(Meters(), str).route]
    assert described == {(route.method, plain(route.path)) for route in routes}
    assert OPERATIONS.keys() == CASES.keys()
    for route in routes:
        operation = openapi("1")["paths"][plain(route.path)][route.method.lower()]
        assert (operation.get("security") == []) == route.open, "who may ask without a key"


@pytest.mark.parametrize("path", CASES)
def test_the_fields_of_a_body_are_those_that_its_reader_takes(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[str] = set()
    take = Fields.take

    def told(self: Fields, name: str) -> Any:
        if "." not in (given := self.path(name)):
            taken.add(given)
        return take(self, name)

    monkeypatch.setattr(Fields, "take", told)
    read, bodies = CASES[path]
    fields = {name for described, _ in OPERATIONS[path].bodies for name in described}
    for body in bodies:
        read({"model": "m", **body})
    assert taken & fields == fields, "described, and read by nobody"
    for name in taken - fields:  # a form that shares a reader has not all that it knows, and says so
        with pytest.raises(Refusal, match="there is no parameter"):
            read({"model": "m", **bodies[0], name: None})


def test_every_schema_is_one_and_takes_the_least_body() -> None:
    document = openapi("1")
    for path, (_, bodies) in CASES.items():
        operation = document["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        for body in bodies:
            jsonschema.Draft202012Validator(schema).validate({"model": "m", **body})
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", CASES)
def test_values_that_ask_for_nothing_are_taken(path: str) -> None:
    """Each value that the document lists for a field is one that the reader takes, alone beside the least body."""
    read, bodies = CASES[path]
    for body, (fields, _) in zip(bodies, OPERATIONS[path].bodies, strict=True):
        for name, schema in fields.items():
            for value in schema.get("enum", ()):
                read({"model": "m", **body, name: value})


def test_a_record_is_closed_unless_it_says_so() -> None:
    assert record({})["additionalProperties"] is False and "additionalProperties" not in record({}, open=True)
