"""A real browser on a real gateway, and a forger on the wire between that gateway and its forwarder.

Owns: the browser's process, what a page said and asked, the relay. Must not know: what the page shows.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from ndn_infer.ndn.tlv import Framer
from tests.daemons import RunningNetwork, stop, wait_ready

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()


@dataclass
class Visit:
    """One open page. `said` are errors and warnings of its console, `hosts` whom it asked."""

    page: Page
    said: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def ask(self, text: str) -> None:
        """Ask, and wait for the end of the answer."""
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")
        self.complete()

    def complete(self) -> None:
        self.page.wait_for_selector(".message.assistant:last-child .foot button:has-text('again')", timeout=60_000)

    def go_to(self, view: str) -> None:
        self.page.click(f"[data-goto={view}]")


@contextlib.contextmanager
def visit(browser: Browser, url: str, *, width: int = 1280, height: int = 900, **more: Any) -> Iterator[Visit]:
    """The page at `url`. At the end: it asked nobody else."""
    context = browser.new_context(viewport={"width": width, "height": height}, **more)
    try:
        seen = Visit(context.new_page())
        seen.page.on("console", lambda line: line.type in ("error", "warning") and seen.said.append(line.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
        seen.page.goto(url)
        yield seen
        assert seen.hosts <= {urlsplit(url).netloc}, seen.hosts
    finally:
        context.close()


@contextlib.contextmanager
def gateway(network: RunningNetwork, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`ndn-infer gateway`; the URL of its page."""
    log = (network.home / "gateway.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "gateway", *arguments],
        env=network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    try:
        wait_ready(process, lines, network.home / "gateway.log")
        yield lines[-1].split()[1].removesuffix("v1"), process
    finally:
        stop(process)
        log.close()


class Relay:
    """Between an application and its forwarder's socket: hands on what each says, but for packets towards the
    application of which `forge` makes something else. Each connection has its threads; they end with it."""

    def __init__(self, folder: Path, forwarder: Path) -> None:
        self.path = folder / "relay.sock"
        self.forge: Callable[[bytes], bytes] = lambda packet: packet
        self._forwarder = forwarder
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._forwarder))
                self._open += [near, far]
                threading.Thread(target=self._hand_on, args=(near, far, lambda packet: packet), daemon=True).start()
                threading.Thread(target=self._hand_on, args=(far, near, self._forged), daemon=True).start()

    def _forged(self, packet: bytes) -> bytes:
        return self.forge(packet)

    def _hand_on(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        framer = Framer()
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                for packet in framer.feed(chunk):
                    target.sendall(change(packet))
            target.shutdown(socket.SHUT_RDWR)
