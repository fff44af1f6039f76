"""Clients of a gateway, polite ones and others: what each does, and which answers it may have.

Owns: single visits. Must not know: how many there are, what is measured of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

MODEL: Final = "smollm2-135m-instruct"
KEYS: Final = {
    "key-of-everybody": "",
    "key-of-the-tenant": "domain=acme name=tenant",
    "key-with-a-quota": "requests=2 requests_per_minute=30 tokens_per_minute=600",
}
BUSY: Final = {429, 503}
"""What a request may be told when others were first."""
MAX_WORDS: Final = 400
"""Of a wrong answer, as it is told."""


@dataclass(eq=False)
class Visitor:
    """One visit after another, at random but for the first, which `first` counts out, so that several visitors make
    every kind of visit. `wrong` has words for each answer that must not be, `late` for each that was not there in time.
    """

    url: str
    session: aiohttp.ClientSession
    chance: random.Random
    first: int = 0
    visit: int = 0
    last: dict[str, str] = field(default_factory=lambda: {"X-Request-Id": "none"})
    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    async def until(self, deadline: float) -> None:
        visits: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.stream, 8), (self.whole, 5), (self.slowly, 2), (self.leaves, 5), (self.oversized, 1),
            (self.malformed, 3), (self.wrong_key, 2), (self.half_a_body, 1), (self.no_http, 1), (self.reads, 2),
            (self.by_quota, 2),
        ]  # fmt: skip
        ways, weights = zip(*visits, strict=True)
        visit = ways[self.first % len(ways)]
        while time.monotonic() < deadline:
            name = visit.__name__
            try:
                await visit()
                self.done[name] += 1
            except TimeoutError:
                self.late.append(f"{name}: {await self._rested_on()}")
            except (aiohttp.ClientError, OSError) as error:
                self.wrong.append(f"{name}: {type(error).__name__} {error} {await self._rested_on()}")
                await asyncio.sleep(0.2)
            visit = self.chance.choices(ways, weights)[0]

    # ------------------------------------------------------------ answers

    def _body(self, **more: Any) -> dict[str, Any]:
        number = self.chance.randrange(60)
        return {
            "model": MODEL, "messages": [{"role": "user", "content": f"Tell me about number {number}."}],
            "max_tokens": self.chance.randrange(1, 16), "seed": self.chance.randrange(3), **more,
        }  # fmt: skip

    async def _rested_on(self) -> str:
        """What the gateway's page has of the newest request, for one that went wrong."""
        path = f"{self.url.removesuffix('/v1')}/network/answers/{self.last['X-Request-Id']}"
        try:
            async with self.session.get(path, headers=self.last) as answer:
                found = await answer.json()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return self.last["X-Request-Id"]
        rows = [f"{row['kind']} {row['start_ms']:.0f}-{row['end_ms']:.0f} ms" for row in found.get("rows", [])]
        told = [str(found.get(name)) for name in ("state", "duration_ms", "tokens")]
        return " ".join([self.last["X-Request-Id"], *told, *rows])

    def _key(self) -> dict[str, str]:
        return {"X-Api-Key": self.chance.choice(["key-of-everybody", "key-of-everybody", "key-of-the-tenant"])}

    def _post(self, body: Any = None, **more: Any) -> Any:
        self.visit += 1
        more["headers"] = {**more.get("headers", self._key()), "X-Request-Id": f"load-{self.first}-{self.visit}"}
        self.last = more["headers"]
        if body is not None:
            more["json"] = body
        return self.session.post(f"{self.url}/chat/completions", **more)

    async def _expect(self, what: str, answer: aiohttp.ClientResponse, allowed: set[int]) -> None:
        """A wrong one is told with its words and with the id under which the gateway's log has it."""
        self.statuses[str(answer.status)] += 1
        if answer.status not in allowed:
            words = (await answer.read())[:MAX_WORDS].decode("utf-8", "replace")
            self.wrong.append(f"{what}: status {answer.status}, {answer.headers.get('X-Request-Id', '')}: {words}")

    async def _read_stream(self, what: str, answer: aiohttp.ClientResponse, pause_s: float = 0.0) -> None:
        lines = []
        async for raw in answer.content:
            if raw.startswith(b"data: "):
                lines.append(raw[6:].strip())
                if pause_s:
                    await asyncio.sleep(pause_s)
        if not lines or lines[-1] != b"[DONE]":
            told = answer.headers.get("X-Request-Id", "")
            self.wrong.append(f"{what}: a stream without its end, {len(lines)} events, {told}")
            return
        last = json.loads(lines[-2])
        finished = "error" not in last and last["choices"][0]["finish_reason"] in ("stop", "length")
        if not finished and last.get("error", {}).get("code") != "busy":
            self.wrong.append(f"{what}: {answer.headers.get('X-Request-Id', '')} {lines[-2][:MAX_WORDS]!r}")

    async def stream(self, what: str = "stream", pause_s: float = 0.0, **more: Any) -> None:
        async with self._post(self._body(stream=True, **more)) as answer:
            await self._expect(what, answer, {200, *BUSY})
            if answer.status == 200:
                await self._read_stream(what, answer, pause_s)
        if answer.status in BUSY:
            await asyncio.sleep(0.5)

    async def slowly(self) -> None:
        await self.stream("slowly", pause_s=self.chance.uniform(0.05, 0.4), max_tokens=12)

    async def whole(self) -> None:
        async with self._post(self._body(n=self.chance.choice([1, 1, 1, 2]))) as answer:
            await self._expect("whole", answer, {200, *BUSY})
            document = await answer.json()
            if answer.status == 200 and not document["choices"][0]["finish_reason"]:
                self.wrong.append(f"whole: {document}")

    async def by_quota(self) -> None:
        async with self._post(self._body(), headers={"X-Api-Key": "key-with-a-quota"}) as answer:
            await self._expect("by_quota", answer, {200, *BUSY})
            if answer.status in BUSY and int(answer.headers.get("Retry-After", "0")) < 1:
                self.wrong.append("by_quota: no Retry-After")

    async def leaves(self) -> None:
        """At any time: before the answer, in the midst of a stream, with bytes unread."""
        after_s = self.chance.choice([0.0, 0.05, 0.3, 1.0, 2.0]) * self.chance.random()
        with suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                body = self._body(stream=self.chance.random() < 0.7, max_tokens=400, ignore_eos=True)
                async with self._post(body) as answer:
                    await self._expect("leaves", answer, {200, *BUSY})
                    async for _ in answer.content:
                        pass

    # ------------------------------------------------------------ what no polite client sends

    async def oversized(self) -> None:
        for size in (70_000, 1_000_000):
            try:
                async with self._post(self._body(user="x" * size)) as answer:
                    await self._expect("oversized", answer, {413})
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                pass  # it was refused while we still wrote

    async def malformed(self) -> None:
        bodies: list[tuple[bytes, set[int]]] = [
            (b"{", {400}), (b"[]", {400}), (b"\xff\xfe", {400}), (b"[" * 20_000, {400}), (b"{}", {400}),
            (json.dumps(self._body(temperature="hot")).encode(), {400}),
            (json.dumps(self._body(max_tokens=10**9)).encode(), {400}),
            (json.dumps(self._body(model="nobody")).encode(), {404, *BUSY}),
            (json.dumps(self._body(colour="red")).encode(), {400}),
            (json.dumps(self._body(messages=[])).encode(), {400}),
        ]  # fmt: skip
        data, allowed = self.chance.choice(bodies)
        async with self._post(data=data, headers={**self._key(), "Content-Type": "application/json"}) as answer:
            await self._expect(f"malformed {data[:60]!r}", answer, allowed)
        async with self._post(data=b"{}", headers={**self._key(), "Content-Type": "text/plain"}) as answer:
            await self._expect("plain text", answer, {415})

    async def wrong_key(self) -> None:
        for headers in ({}, {"X-Api-Key": "nobody-has-this-key"}, {"Authorization": "Basic a2V5"}):
            async with self._post(self._body(), headers=headers) as answer:
                await self._expect("wrong_key", answer, {401})

    async def reads(self) -> None:
        for path, key, status in (
            ("/health", False, 200), ("/ready", False, 200), ("/v1/models", True, 200), ("/v1/nothing", True, 404),
            ("/v1/chat/completions", True, 405), ("/v1/models", False, 401),
        ):  # fmt: skip
            headers = self._key() if key else {}
            async with self.session.get(self.url.removesuffix("/v1") + path, headers=headers) as answer:
                await self._expect(f"reads {path}", answer, {status})

    async def half_a_body(self) -> None:
        """A body that is announced and does not come; some wait for the answer (408), some leave."""
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-everybody\r\n"
            b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
        )
        answer = await self._raw(head, self.chance.choice([0.0, 0.5, 8.0]))
        if answer and b" 408 " not in answer.split(b"\r\n")[0]:
            self.wrong.append(f"half_a_body: {answer[:80]!r}")

    async def no_http(self) -> None:
        answer = await self._raw(self.chance.choice([
            b"\x16\x03\x01\x02\x00\x01\x00", b"GET /" + b"x" * 20_000, b"\r\n" * 50, self.chance.randbytes(300),
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000,
        ]), self.chance.choice([0.0, 0.5]))  # fmt: skip
        if answer and not (answer.startswith(b"HTTP/1.") and answer[8:10] == b" 4"):
            self.wrong.append(f"no_http: {answer[:80]!r}")

    async def _raw(self, sent: bytes, wait_s: float) -> bytes:
        where = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(sent)
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(wait_s):
                    return await reader.read(4096)
            return b""
        finally:
            writer.transport.abort()


async def left_after(session: aiohttp.ClientSession, url: str, tokens: int, number: int) -> tuple[int, float]:
    """Read so many tokens of a long answer, then leave: how many there were, and how many a second. An event has
    several of them where they come quickly; it tells the log probability of each."""
    body = {
        "model": MODEL, "max_tokens": 3000, "ignore_eos": True, "stream": True, "seed": 100 + number, "logprobs": True,
        "messages": [{"role": "user", "content": f"A very long story, number {number}."}], "temperature": 0.9,
    }  # fmt: skip
    at: list[float] = []
    async with session.post(f"{url}/chat/completions", json=body, headers={"X-Api-Key": "key-of-everybody"}) as answer:
        async for raw in answer.content:
            if raw.startswith(b"data: {"):
                (choice,) = json.loads(raw[6:])["choices"]
                at += [time.monotonic()] * len((choice.get("logprobs") or {}).get("content") or ())
            if len(at) > tokens:
                break
    return len(at), (len(at) - 1) / max(at[-1] - at[0], 1e-6)
