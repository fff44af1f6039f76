"""Every path of the gateway: one line each, its handler in a module of its own.

Owns: the list. Must not know: what a handler does. A handler that needs more than its Exchange is made by the command
(apps/gateway.py), which gives its route to the server beside these.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.gateway import endpoints
from ndn_infer.gateway.exchange import HttpRoute
from ndn_infer.gateway.forms.messages import error_document
from ndn_infer.gateway.openapi.endpoint import openapi_document

ROUTES: Final = (
    HttpRoute("GET", "/health", endpoints.health, open=True),
    HttpRoute("GET", "/ready", endpoints.ready, open=True),
    HttpRoute("GET", "/v1/models", endpoints.models),
    HttpRoute("GET", "/v1/models/{model:.+}", endpoints.model),
    HttpRoute("POST", "/v1/chat/completions", endpoints.chat, body=True),
    HttpRoute("POST", "/v1/responses", endpoints.responses, body=True),
    HttpRoute("POST", "/v1/messages", endpoints.messages, body=True, error=error_document),
    HttpRoute("POST", "/v1/messages/count_tokens", endpoints.count_tokens, body=True, error=error_document),
    HttpRoute("POST", "/v1/completions", endpoints.completion, body=True),
    HttpRoute("POST", "/v1/embeddings", endpoints.embeddings, body=True),
    HttpRoute("GET", "/openapi.json", openapi_document, open=True),
    HttpRoute("POST", "/tokenize", endpoints.tokenize, body=True),
    HttpRoute("POST", "/detokenize", endpoints.detokenize, body=True),
)

ALIASES: Final = (HttpRoute("POST", "/chat/completions", endpoints.chat, body=True),)
"""The same for clients that leave /v1 out; /openapi.json does not have them."""
