"""OpenAI's paths: what each does with an admitted request.

Owns: which reading, which asking, which form belong to a path. Must not know: keys, bounds, the server's end.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web

from ndn_infer import clock
from ndn_infer.gateway.anthropic import read_anthropic, read_count
from ndn_infer.gateway.exchange import Exchange
from ndn_infer.gateway.forms.chat import ChatForm
from ndn_infer.gateway.forms.messages import MessagesForm
from ndn_infer.gateway.forms.responses import ResponsesForm
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.requests import MAX_MODEL, read_chat, read_completion
from ndn_infer.gateway.responses import read_responses
from ndn_infer.gateway.service import Prepared
from ndn_infer.gateway.streaming import answer_stream, answer_whole
from ndn_infer.gateway.tokens import read_detokenize, read_tokenize
from ndn_infer.gateway.vectors import read_embedding


async def health(exchange: Exchange) -> web.StreamResponse:
    """Whether this process lives; it does while it stops, too."""
    return web.json_response({"status": "stopping" if exchange.state.draining else "ok"})


async def ready(exchange: Exchange) -> web.StreamResponse:
    """Whether requests should be sent here."""
    state = exchange.state
    if state.draining:
        status = "stopping"
    elif state.uplink is not None and not state.uplink.connected:
        status = "no forwarder"
    elif state.uplink is not None and not await state.uplink.generates():
        status = "no producer"
    else:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": status}, status=503, headers={"Retry-After": "1"})


async def models(exchange: Exchange) -> web.StreamResponse:
    return web.json_response(await exchange.service.models())


async def model(exchange: Exchange) -> web.StreamResponse:
    name = exchange.request.match_info["model"]
    if len(name) > MAX_MODEL:
        raise bad("a model's name is shorter", "model")
    return web.json_response(await exchange.service.model(name))


async def chat(exchange: Exchange) -> web.StreamResponse:
    asked = read_chat(exchange.document, exchange.service.defaults)
    if asked.conversation and "Last-Event-ID" in exchange.request.headers:
        raise bad("an answer in a conversation is not taken up again: its state has changed", "conversation")
    prepared = await exchange.service.chat(asked, partial(ChatForm, asked=asked.asked))
    return await answer(exchange, prepared)


async def responses(exchange: Exchange) -> web.StreamResponse:
    asked = read_responses(exchange.document, exchange.service.defaults)
    form = partial(ResponsesForm, said=asked.said, alternatives=asked.chat.asked.alternatives, now=clock.wall_s)
    return await answer(exchange, await exchange.service.chat(asked.chat, form, "input"))


async def messages(exchange: Exchange) -> web.StreamResponse:
    asked = read_anthropic(exchange.document, exchange.service.defaults)
    return await answer(exchange, await exchange.service.chat(asked, MessagesForm))


async def count_tokens(exchange: Exchange) -> web.StreamResponse:
    asked = read_count(exchange.document, exchange.service.defaults)
    return web.json_response({"input_tokens": await exchange.service.count(asked)})


async def completion(exchange: Exchange) -> web.StreamResponse:
    asked = read_completion(exchange.document, exchange.service.defaults)
    return await answer(exchange, await exchange.service.completion(asked))


async def embeddings(exchange: Exchange) -> web.StreamResponse:
    return web.json_response(await exchange.service.embed(read_embedding(exchange.document)))


async def tokenize(exchange: Exchange) -> web.StreamResponse:
    return web.json_response(await exchange.service.tokenize(read_tokenize(exchange.document)))


async def detokenize(exchange: Exchange) -> web.StreamResponse:
    return web.json_response(await exchange.service.detokenize(read_detokenize(exchange.document)))


async def answer(exchange: Exchange, prepared: Prepared) -> web.StreamResponse:
    """Whole, or as a stream when the request wants one."""
    if prepared.asked.stream:
        return await answer_stream(exchange.request, prepared, exchange.config.keep_alive_s)
    return web.json_response(await answer_whole(prepared), headers=prepared.headers)
