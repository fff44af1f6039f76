"""GET /openapi.json. Owns: which version and address the document has. Must not know: what stands in it."""

from __future__ import annotations

from aiohttp import web

from ndn_infer import __version__
from ndn_infer.gateway.exchange import Exchange
from ndn_infer.gateway.openapi.document import openapi


async def openapi_document(exchange: Exchange) -> web.StreamResponse:
    return web.json_response(openapi(__version__))
