"""Plain python-ndn as a client of `bench fetch`: its own calls, its own checker, nothing of ours.

Owns: a window of Interests over `express_interest`, and its `segment_fetcher`. Must not know: who serves.

    python -m ndn_infer.testbed.bench.fetch_python_ndn window '{"path": ..., "name": ..., "segments": ...}'
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ndn.app import NDNApp
from ndn.app_support.segment_fetcher import segment_fetcher
from ndn.encoding import Component, Name
from ndn.security import KeychainDigest, sha256_digest_checker
from ndn.transport.stream_face import UnixFace

from ndn_infer.testbed.bench.fetch_child import client_main

WINDOW: Final = 64
LIFETIME_MS: Final = 4000


def window(path: str, name: str, segments: int) -> dict[str, Any]:
    """As quick as its users make it: so many Interests in flight, each Data's digest checked."""
    pieces = [b""] * segments

    async def fetch(app: Any) -> bytes:
        base = Name.from_bytes(bytes.fromhex(name))
        numbers = iter(range(segments))

        async def worker() -> None:
            for number in numbers:
                _, _, content = await app.express_interest(
                    [*base, Component.from_segment(number)], validator=sha256_digest_checker, lifetime=LIFETIME_MS
                )
                pieces[number] = bytes(content)

        await asyncio.gather(*(worker() for _ in range(WINDOW)))
        return b"".join(pieces)

    return _timed(path, fetch)


def segments(path: str, name: str) -> dict[str, Any]:
    """Its own helper, which asks for one segment after the other."""

    async def fetch(app: Any) -> bytes:
        base = Name.from_bytes(bytes.fromhex(name))
        found = segment_fetcher(app, base, validator=sha256_digest_checker, must_be_fresh=False)
        return b"".join([bytes(piece) async for piece in found])

    return _timed(path, fetch)


def _timed(path: str, fetch: Callable[[Any], Awaitable[bytes]]) -> dict[str, Any]:
    app = NDNApp(face=UnixFace(path), keychain=KeychainDigest())
    result: dict[str, Any] = {}

    async def work() -> None:
        began = time.perf_counter()
        try:
            content = await fetch(app)
            result.update(seconds=time.perf_counter() - began, sha256=hashlib.sha256(content).hexdigest())
        except Exception as error:  # its exceptions have no common ancestor
            result.update(error=f"{type(error).__name__}: {error}")
        app.shutdown()

    app.run_forever(work())
    return result


if __name__ == "__main__":
    sys.exit(client_main({"window": window, "segments": segments}, sys.argv[1:]))
