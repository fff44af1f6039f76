"""What the tests against NDNts share: a large object, a forwarder that listens everywhere, and readers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from ndn import app as app_v1
from ndn.app_support.segment_fetcher import segment_fetcher
from ndn.security import KeychainDigest, sha256_digest_checker

from ndn_infer import ndn
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from tests.integration.test_forwarder_clients import face_to, forwarder, running
from tests.interop.ndnts_kit import KINDS, missing_tools, until

WITH_NDNTS = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(missing_tools()), reason=f"not on PATH: {', '.join(missing_tools())}"),
]
BIG = random.Random(11).randbytes(200_000)
CHUNK_BYTES = 8000  # as agent.mjs cuts
BIG_SEGMENTS = -(-len(BIG) // CHUNK_BYTES)
NO_ROUTE = 150
every_kind = pytest.mark.parametrize("kind", KINDS)


def listening(directory: Path, name: str = "nfd") -> AbstractAsyncContextManager[ForwarderDaemon]:
    return forwarder(directory, name, ws_bind=("127.0.0.1:0",))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def a_few_at_a_time(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """NDNts has no congestion control for single Interests, and a UDP socket's buffer holds some 250 datagrams."""
    free = asyncio.Semaphore(32)

    async def one(call: Awaitable[Any]) -> Any:
        async with free:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))


async def registered(daemon: ForwarderDaemon, uri: str, *, present: bool = True) -> None:
    await until(lambda: (ndn.from_uri(uri) in daemon.core.fib) is present)


async def read_by_python(daemon: ForwarderDaemon, uri: str) -> bytes:
    """python-ndn's own loop over segments; each one's digest is checked."""
    async with running(app_v1.NDNApp(face=face_to(daemon, "unix"), keychain=KeychainDigest())) as application:
        fetcher = segment_fetcher(application, uri, validator=sha256_digest_checker, must_be_fresh=False)
        return b"".join([bytes(piece) async for piece in fetcher])


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()
