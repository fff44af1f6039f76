"""Web pages of other origins, which browsers let ask only where the answer says that they may (CORS).

Owns: those headers. Must not know: keys, paths. A page needs an API key like anybody else, and sends it in a header: it
has nothing of the user's that it could use unseen, so a gateway with keys lets any page ask. One without keys lets none
(server.py), and says nothing here.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

_METHODS: Final = "GET, POST, DELETE, OPTIONS"
_TOLD: Final = "X-Request-Id, Retry-After, retry-after-ms"
MAX_ORIGIN: Final = 256
_REMEMBERED_S: Final = "600"


def is_preflight(request: web.Request) -> bool:
    """A browser's question whether a page may ask: it has no key, and nothing is done for it."""
    headers = request.headers
    return request.method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def preflight(request: web.Request) -> web.Response:
    """Headers are named one by one: browsers do not take a star for Authorization."""
    asked = request.headers.get("Access-Control-Request-Headers", "")
    return web.Response(headers={
        "Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": asked[:1024] or "*",
        "Access-Control-Max-Age": _REMEMBERED_S,
    })  # fmt: skip


def allow_page(request: web.Request, response: web.StreamResponse) -> None:
    """Of every answer to a page."""
    if origin := request.headers.get("Origin", "")[:MAX_ORIGIN]:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = _TOLD
        response.headers["Vary"] = "Origin"
