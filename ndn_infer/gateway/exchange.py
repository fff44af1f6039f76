"""One admitted request and what it is answered from; a route: which requests a handler takes.

Owns: what every handler is given. Must not know: which routes there are (routes.py), what holds for all (server.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from ndn_infer.config import GatewayConfig
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.service import Service
from ndn_infer.gateway.tenants import Tenant
from ndn_infer.gateway.uplink import Uplink

TENANT: Final = web.RequestKey("tenant", Tenant)
"""Who asks, in a request that was admitted with a key or where none is wanted."""


@dataclass(slots=True)
class ServerState:
    """How the server gets on, for handlers that tell it. `working`: requests with a body that are in work; `uplink`:
    None where a service without a network is served, in tests."""

    working: int = 0
    draining: bool = False
    """It is about to stop, and says so to those who ask whether to send requests here."""
    closing: bool = False
    """It takes no more requests."""
    uplink: Uplink | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """`document` is the JSON of the body, {} for a route without one; `service` asks in the domain of the request's
    key."""

    request: web.Request
    service: Service
    config: GatewayConfig
    state: ServerState
    document: dict[str, Any] = field(default_factory=dict)


Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]


def openai_error(refusal: Refusal) -> dict[str, Any]:
    return refusal.document


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """`open`: wants no key, and serves pages of any origin. `body`: takes a JSON object, and so is one of
    gateway.requests in work, bounded in size and time. `path` as aiohttp has it. `error`: the JSON of a refusal."""

    method: str
    path: str
    handler: Handler
    open: bool = False
    body: bool = False
    error: Callable[[Refusal], dict[str, Any]] = openai_error
