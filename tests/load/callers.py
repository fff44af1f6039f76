"""What people and machines do with a network in a day: the kinds of use of day.py.

Owns: one method a kind, on the command line as a user has it, or with packets as a stranger sends them; what a right
end of each is. Must not know: how long it goes on, what is measured. Every process that is started is ended by its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.ndn import packet
from tests.daemons import RunningNetwork, ends_with_us
from tests.load.peer import Unanswered, interest, open_peer

PATIENCE_S: Final = 240.0
"""An answer that takes longer has stalled."""
INTERRUPTED: Final = 130
REFUSED: Final = 2
WORDS: Final = (
    "harbour lantern winter garden copper river market violin morning letter bridge candle forest engine island "
    "pepper ladder mirror needle orchard"
).split()


@dataclass
class Tally:
    """What was done, how long each took, what went wrong. `cut` counts answers that the caller gave up itself."""

    done: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    cut: int = 0

    def seconds(self, kind: str, share: float) -> float:
        ordered = sorted(self.times[kind])
        return round(ordered[int(share * (len(ordered) - 1))], 2)


@dataclass(frozen=True)
class End:
    """How a command ended. `document` is its answer, `errors` what it said when there was none."""

    status: int
    document: dict[str, Any]
    errors: str


class Wrong(Exception):
    """Something ended otherwise than it should."""


class Caller:
    """One who does one thing after the other. `run` until the time has come; `close` ends what still runs."""

    def __init__(self, number: int, network: RunningNetwork, tally: Tally, dice: random.Random) -> None:
        self.number = number
        self._network, self._tally, self._dice = network, tally, dice
        self._running: set[asyncio.subprocess.Process] = set()

    async def run(self, deck: Iterator[str]) -> None:
        """One kind after the other, until the deck has no more."""
        for kind in deck:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await KINDS[kind](self)
            except TimeoutError:
                self._tally.wrong.append((kind, f"no end after {PATIENCE_S:g} s"))
                await self.close()
            except (Wrong, Unanswered) as error:
                self._tally.wrong.append((kind, str(error)))
            self._tally.done[kind] += 1
            self._tally.times.setdefault(kind, []).append(time.monotonic() - began)

    async def close(self) -> None:
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()

    # ------------------------------------------------------------ asking

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ndn_infer", "ask", "--json", "--no-embedded", *arguments,
            env=self._network.environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, preexec_fn=ends_with_us(signal.SIGKILL),
        )  # fmt: skip
        self._running.add(process)
        return process

    async def _end(self, process: asyncio.subprocess.Process, text: str | None = None) -> End:
        output, errors = await process.communicate(None if text is None else text.encode())
        self._running.discard(process)
        status = process.returncode if process.returncode is not None else -1
        return End(status, json.loads(output) if status == 0 else {}, (errors + output).decode("utf-8", "replace"))

    async def _ask(self, prompt: str, max_tokens: int, *arguments: str) -> dict[str, Any]:
        """The document of a right answer. Raises Wrong."""
        process = await self._start("--max-tokens", str(max_tokens), *arguments, "-")
        return self._right(await self._end(process, prompt))

    @staticmethod
    def _right(end: End) -> dict[str, Any]:
        if end.status != 0:
            raise Wrong(f"status {end.status}: {end.errors[-300:]}")
        if not end.document["token_ids"]:
            raise Wrong("an answer without a token")
        return end.document

    def _prompt(self, words: int) -> str:
        return " ".join(self._dice.choice(WORDS) for _ in range(words)) + ". What is this list about?"

    def _large(self) -> str:
        """More than fits an Interest, of few tokens."""
        return self._prompt(20) + "\n" + ("=" * 64 + "\n") * 75

    # ------------------------------------------------------------ people

    async def short(self) -> None:
        await self._ask(self._prompt(self._dice.randrange(2, 12)), self._dice.randrange(4, 20))

    async def long(self) -> None:
        await self._ask(self._prompt(900), 4)

    async def burst(self) -> None:
        """More blocks at once than the pool has: each of its pages is used."""
        await asyncio.gather(*(self._ask(self._prompt(380), 4) for _ in range(8)))

    async def equal(self) -> None:
        """One answer for all who ask the same at once."""
        prompt = self._prompt(8)
        answers = await asyncio.gather(*(self._ask(prompt, 12) for _ in range(4)))
        if len({tuple(answer["token_ids"]) for answer in answers}) != 1:
            raise Wrong("equal questions had different answers")

    async def together(self) -> None:
        """Eight processes of one identity, each with a request that its producer has to fetch."""
        await asyncio.gather(*(self._ask(self._large(), 2) for _ in range(8)))

    async def given_up(self) -> None:
        """Ctrl-C in mid-answer."""
        process = await self._start("--max-tokens", "600", self._prompt(6))
        await asyncio.sleep(self._dice.uniform(0.5, 4.0))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        end = await self._end(process)
        self._tally.cut += 1
        starting = end.status == -signal.SIGINT and "ndn_infer/" not in end.errors  # the interpreter itself
        if end.status not in (0, INTERRUPTED) and not starting:
            raise Wrong(f"status {end.status} after Ctrl-C: {end.errors[-300:]}")

    async def killed(self) -> None:
        """A machine that is switched off in mid-answer."""
        process = await self._start("--max-tokens", "600", self._prompt(6))
        await asyncio.sleep(self._dice.uniform(0.5, 4.0))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await self._end(process)
        self._tally.cut += 1

    async def suspended(self) -> None:
        """A reader that reads nothing for some seconds, then goes on."""
        process = await self._start("--max-tokens", "60", self._prompt(6))
        await asyncio.sleep(1.5)
        if process.returncode is None:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(6.0)
            process.send_signal(signal.SIGCONT)
        self._right(await self._end(process))

    async def retrieval(self) -> None:
        place = self._dice.choice(("Bergen", "Oslo", "Tromso"))
        answer = await self._ask(f"What is {place} known for? {self._prompt(2)}", 8, "--rag", "notes")
        if not answer["cited"]:
            raise Wrong("an answer from a corpus without a citation")

    async def private(self) -> None:
        answer = await self._ask(self._prompt(self._dice.choice((6, 60))), 8, "--domain", "acme")
        if answer["domain"] == "public":
            raise Wrong("a private question was asked in public")

    async def private_large(self) -> None:
        await asyncio.gather(*(self._ask(self._large(), 2, "--domain", "acme") for _ in range(2)))

    async def refused(self) -> None:
        """What cannot be is refused, in one line."""
        arguments, text = self._dice.choice((
            (("--max-tokens", "8"), "word " * 9000), (("--temperature", "-3"), "x"), (("--top-p", "7"), "x"),
            (("--stop", ""), "x"),
        ))  # fmt: skip
        end = await self._end(await self._start(*arguments, "-"), text)
        if end.status != REFUSED or "Traceback" in end.errors or "internal error" in end.errors:
            raise Wrong(f"{arguments} ended with {end.status}: {end.errors[-300:]}")

    # ------------------------------------------------------------ strangers

    async def _offered(self) -> list[str]:
        """Prefixes that somebody answers for."""
        routes = (await asyncio.to_thread(self._network.status))["routes"]
        return [route["prefix"] for route in routes if not route["prefix"].startswith("/localhost")]

    async def rubbish(self) -> None:
        """Interests without sense below everything that is offered, some of them in the form of calls."""
        prefixes = await self._offered()
        peer = await open_peer(f"unix://{self._network.socket}")
        for prefix in prefixes:
            for function in ("generate", "prefill", "tokenize", "embed", "lookup", "holds", "status", ""):
                base = ndn.from_uri(f"{prefix}/{function}") + ndn.generic(self._dice.choice((b"shared", b"private")))
                for body in (b"", self._dice.randbytes(200), b"\x81\xa3ids\xdd\xff\xff\xff\xff", b"\xc4" * 4000):
                    wire, _ = packet.encode_interest(
                        base, nonce=self._dice.randbytes(4), parameters=body, must_be_fresh=True, lifetime_ms=500,
                        can_be_prefix=True,
                    )  # fmt: skip
                    peer.link.send(wire, time.monotonic())
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        peer.close()

    async def deaf(self) -> None:
        """Asks for much and reads nothing, then is gone."""
        base = ndn.from_uri(self._dice.choice(await self._offered()))
        sock = await asyncio.to_thread(_connected, str(self._network.socket))
        with contextlib.closing(sock):
            for number in range(2000):
                with contextlib.suppress(BlockingIOError):
                    sock.send(interest(base + ndn.segment(number), prefix=True, lifetime_ms=1000))
            await asyncio.sleep(3.0)

    async def torn(self) -> None:
        """Breaks off in mid-packet."""
        sock = await asyncio.to_thread(_connected, str(self._network.socket))
        with contextlib.closing(sock):
            sock.send(b"\x05\xfd\x20\x00" + os.urandom(500))
            await asyncio.sleep(0.2)


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.setblocking(False)
    return sock


DECK: Final[dict[str, int]] = {
    "short": 5, "long": 1, "burst": 1, "equal": 1, "together": 1, "given_up": 3, "killed": 1, "suspended": 1,
    "retrieval": 2, "private": 2, "private_large": 1, "refused": 1, "rubbish": 1, "deaf": 1, "torn": 1,
}  # fmt: skip
"""How often each kind comes in a round."""

KINDS: Final[dict[str, Callable[[Caller], Awaitable[None]]]] = {kind: getattr(Caller, kind) for kind in DECK}
