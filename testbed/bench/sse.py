"""Server-sent events, as language models are served elsewhere: the peer of one stream with many readers.

Owns: a server that sends every reader the same answer token by token, as OpenAI's chunks over HTTP/1.1, and readers
that count its tokens. Must not know: NDN.

    python -m ndn_infer.testbed.bench.sse serve PORT TOKENS EVERY_MS      prints READY; ends with its standard input
    python -m ndn_infer.testbed.bench.sse read HOST PORT READERS          prints how many tokens each of them got
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
ASK: Final = b"POST /v1/chat/completions HTTP/1.1\r\nHost: model\r\nContent-Length: 0\r\n\r\n"
LAST: Final = b"data: [DONE]\n\n"
ANSWER_S: Final = 120.0


def chunk(number: int) -> bytes:
    """One token, with the fields that OpenAI's protocol has and nothing else."""
    document = {
        "id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1_764_100_000,
        "model": "smollm2-135m-instruct",
        "choices": [{"index": 0, "delta": {"content": " windmill"[: 4 + number % 6]}, "finish_reason": None}],
    }  # fmt: skip
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


async def serve(port: int, tokens: int, every_s: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        for number in range(tokens):
            writer.write(chunk(number))
            await writer.drain()
            await asyncio.sleep(every_s)
        writer.write(LAST)
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", port, limit=1 << 16)
    print(f"READY sse {port}", flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


async def read(host: str, port: int, readers: int) -> list[int]:
    """Tokens that each reader got."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 16)
        writer.write(ASK)
        count = 0
        async for line in reader:
            count += line.startswith(b"data: {")
        writer.close()
        return count

    async with asyncio.timeout(ANSWER_S):
        return list(await asyncio.gather(*(one() for _ in range(readers))))


def main(arguments: Sequence[str]) -> int:
    what, *rest = [text for text in arguments if text != "--exit-with-parent"]
    if what == "serve":
        port, tokens, every_ms = (int(text) for text in rest)
        asyncio.run(serve(port, tokens, every_ms / 1000))
    else:
        host, port_text, readers = rest
        print(json.dumps(asyncio.run(read(host, int(port_text), int(readers)))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
