"""A thousand Interests of rubbish a second at a producer, at its public and private calls: what honest callers feel.

    python -m tests.load.rubbish [--rate 1000] [--calls 200]

A forwarder, a producer, an attacker and the honest caller are processes of their own on this machine. The caller makes
calls one after another, every other one privately, all of them new; first with nobody else there, then under the
attack. Prints median and 95th percentile of both and their ratio; fails when the 95th percentile is more than twice the
quiet one, or a call failed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.config import Config, load
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.tokenize import Text
from ndn_infer.namespace import Call, CallClass, Input
from ndn_infer.ndn.packet import SignatureInfo, encode_interest
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.records import Envelope, Record, TokenizeRequest
from ndn_infer.security.domain_store import DomainStore, create, tenant_of
from ndn_infer.security.domains import SealedRequest
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.inputs import Inputs
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.serve import Server

ROOT: Final = Path(__file__).resolve().parents[2]
SUBJECT: Final = ("service", "rubbish")
ROLES: Final = ("rubbish", "user", "domain")
TICK_S: Final = 0.005
PHASE_S: Final = 60.0
"""A phase ends then, whether all its calls were made or not."""


class Count(NamedFunction[TokenizeRequest]):
    """What the honest call: counts words."""

    function, role, request_type, subject, private = "count", "rubbish", TokenizeRequest, SUBJECT, True

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        return Text(str(len(request.text.split())))


# ---------------------------------------------------------------- the attacker


class Rubbish:
    """Makes Interests; `silent` is a prefix with a route to somebody who never answers."""

    def __init__(self, net: ndn.Name) -> None:
        self._net = net
        self.silent = net + b"".join(map(ndn.generic, ("evil", "n1", "user")))
        self._number = 0
        self._kinds = (
            self._wrong_digest, self._no_record, self._no_request, self._unsigned_private, self._silent_certificate,
            self._silent_source, self._sealed_shared, self._no_call, self._large, self._odd_source,
        )  # fmt: skip

    def next(self) -> bytes:
        self._number += 1
        return self._kinds[self._number % len(self._kinds)]()

    def _call(self, parameters: bytes, request: bytes, kind: CallClass = CallClass.SHARED) -> bytes:
        name = Call(*SUBJECT, "count", kind, hashlib.sha256(request).hexdigest()).to_name(self._net)
        return self._wire(name, parameters)

    def _wire(self, name: ndn.Name, parameters: bytes | None, info: SignatureInfo | None = None) -> bytes:
        wire, _ = encode_interest(
            name, nonce=os.urandom(4), must_be_fresh=True, lifetime_ms=1000, parameters=parameters, info=info,
            signer=(lambda _: bytes(64)) if info else None,
        )  # fmt: skip
        return wire

    def _wrong_digest(self) -> bytes:
        return self._call(records.encode(Envelope(os.urandom(40))), os.urandom(8))

    def _no_record(self) -> bytes:
        return self._call(os.urandom(60), b"x")

    def _no_request(self) -> bytes:
        request = os.urandom(50)
        return self._call(records.encode(Envelope(request)), request)

    def _unsigned_private(self) -> bytes:
        request = os.urandom(50)
        return self._call(records.encode(Envelope(request)), request, CallClass.PRIVATE)

    def _silent_certificate(self) -> bytes:
        request = os.urandom(50)
        key = self.silent + b"".join(map(ndn.generic, ("KEY", os.urandom(8).hex(), "root"))) + ndn.version(1)
        info = SignatureInfo(5, key, nonce=os.urandom(8), time_ms=time.time_ns() // 1_000_000)
        name = Call(*SUBJECT, "count", CallClass.PRIVATE, hashlib.sha256(request).hexdigest()).to_name(self._net)
        return self._wire(name, records.encode(Envelope(request)), info)

    def _silent_source(self) -> bytes:
        digest = os.urandom(32).hex()
        source = ndn.to_uri(Input("evil", "n1", "user", "0a", digest).to_name(self._net))
        name = Call(*SUBJECT, "count", CallClass.SHARED, digest).to_name(self._net)
        return self._wire(name, records.encode(Envelope(sources=(source,), caller=ndn.to_uri(self.silent))))

    def _odd_source(self) -> bytes:
        name = Call(*SUBJECT, "count", CallClass.SHARED, os.urandom(32).hex()).to_name(self._net)
        return self._wire(name, records.encode(Envelope(sources=("/a/b",), caller="/c")))

    def _sealed_shared(self) -> bytes:
        request = records.encode(SealedRequest("ab" * 16 + ".1", os.urandom(300)))
        return self._call(records.encode(Envelope(request)), request)

    def _no_call(self) -> bytes:
        return self._wire(self._net + b"".join(map(ndn.generic, (*SUBJECT, "count", os.urandom(4).hex()))), None)

    def _large(self) -> bytes:
        request = records.encode(TokenizeRequest(text="")) + os.urandom(7000)
        return self._call(records.encode(Envelope(request)), request)


async def attack(config: Config, uri: str, rate: int) -> None:
    """Until standard input closes."""
    node = await Node.join(config, ensure_keys(config, ROLES), uri=uri)
    rubbish = Rubbish(node.net)
    await Registrar(node.endpoint).register(rubbish.silent)
    node.endpoint.attach(rubbish.silent, lambda request: None)
    closed = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    print("GO", flush=True)
    began, sent = time.monotonic(), 0
    while not closed.done():
        due = int((time.monotonic() - began) * rate) - sent
        node.endpoint.send_packed(b"".join(rubbish.next() for _ in range(due)), due)
        sent += due
        await asyncio.sleep(TICK_S)
    print(f"{sent} Interests in {time.monotonic() - began:.1f} s", flush=True)
    await node.close()


# ---------------------------------------------------------------- the honest caller


@dataclass
class Times:
    """Seconds of each call, by kind."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"public": [], "private": []})
    failed: list[str] = field(default_factory=list)

    def of(self, kind: str, share: float) -> float:
        ordered = sorted(self.seconds[kind]) or [PHASE_S]
        return ordered[int(share * (len(ordered) - 1))] * 1000


async def call(node: Node, label: str, calls: int) -> Times:
    signer = node.keychain.signer_for(role_identity(node.config, "user"))
    server, registrar = Server(node.endpoint, ObjectStore(64 << 20)), Registrar(node.endpoint)
    inputs = Inputs(node.net, server, signer, registrar=registrar, certificates=node.keychain.certificates)
    caller = node.caller(inputs=lambda: inputs, access=node.access(signer))
    times, until = Times(), time.monotonic() + PHASE_S
    for number in range(calls):
        if time.monotonic() > until:
            times.failed.append(f"only {number} of {calls} calls were made in {PHASE_S:g} s")
            break
        kind = "private" if number % 2 else "public"
        request = TokenizeRequest(text=f"{os.urandom(8).hex()} " * (20 if number % 10 else 800))
        began = time.monotonic()
        try:
            domain = label if kind == "private" else "public"
            await caller.call(Ask(SUBJECT, "count", request, domain), Text)
            times.seconds[kind].append(time.monotonic() - began)
        except Exception as error:
            times.failed.append(f"{type(error).__name__}: {error}")
        await asyncio.sleep(0.005)
    return times


# ---------------------------------------------------------------- all together


def environment_of(home: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "NDN_"))}
    return {
        **clean,
        "HOME": str(home),
        "NDN_INFER_NETWORK_NET": "/ndn-infer/local",
        "NDN_INFER_PATHS_DATA_DIR": str(home / "data"),
        "NDN_INFER_PATHS_RUNTIME_DIR": str(home),
        "NDN_CLIENT_TRANSPORT": f"unix://{home}/f.sock",
        "PYTHONPATH": str(ROOT),
    }


def _start(environment: dict[str, str], *arguments: str, ready: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ready):
            return process
    raise RuntimeError(f"{arguments} did not begin")


def _stop(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate("", timeout=20)[0].strip()
    except subprocess.TimeoutExpired:
        process.kill()
        return ""


def _domain(config: Config, node: Node) -> str:
    """A tenant domain of this machine; its label."""
    shop, domain = DomainStore(config.keys_dir), create("acme", role_identity(config, "domain"))
    with shop.locked():
        shop.save(domain)
    return tenant_of(domain).newest.label


def _cpu_s(process: subprocess.Popen[str]) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(home: Path, rate: int, calls: int) -> tuple[Times, Times, str]:
    """Honest calls while it is quiet, and under `rate` Interests of rubbish a second; what the attack did."""
    environment, uri = environment_of(home), f"unix://{home}/f.sock"
    config = load(environment=environment)
    ensure_keys(config, ROLES)
    running = [
        _start(environment, "ndn_infer", "forwarder", "--unix", f"{home}/f.sock", "--exit-with-parent", ready="")
    ]
    said = ""
    try:
        node = await Node.join(config, ensure_keys(config, ROLES), uri=uri)
        label = _domain(config, node)
        functions = "tests.load.rubbish:Count"
        running.append(
            _start(environment, "ndn_infer", "produce", "--functions", functions, "--exit-with-parent", ready="READY")
        )
        await call(node, label, 20)
        quiet = await call(node, label, calls)
        attacker = _start(environment, "tests.load.rubbish", "--attack", uri, "--rate", str(rate), ready="GO")
        await asyncio.sleep(1.0)
        before, began = [_cpu_s(process) for process in (*running, attacker)], time.monotonic()
        loaded = await call(node, label, calls)
        used, seconds = [_cpu_s(process) for process in (*running, attacker)], time.monotonic() - began
        shares = (round(100 * (now - then) / seconds) for now, then in zip(used, before, strict=True))
        said = _stop(attacker) + "; CPU of forwarder {}%, producer {}%, attacker {}%".format(*shares)
        await node.close()
    finally:
        for process in reversed(running):
            _stop(process)
    return quiet, loaded, said


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rubbish", description="honest calls under a flood of rubbish")
    parser.add_argument("--rate", type=int, default=1000, help="Interests of rubbish a second")
    parser.add_argument("--calls", type=int, default=300, help="honest calls in each phase")
    parser.add_argument("--attack", default="", metavar="URI", help="be the attacker")
    options = parser.parse_args(arguments)
    if options.attack:
        asyncio.run(attack(load(environment=os.environ), options.attack, options.rate))
        return 0
    with tempfile.TemporaryDirectory(prefix="rub-") as folder:
        quiet, loaded, said = asyncio.run(measure(Path(folder), options.rate, options.calls))
    bad = bool(quiet.failed or loaded.failed)
    for kind in ("public", "private"):
        before, under = quiet.of(kind, 0.95), loaded.of(kind, 0.95)
        bad = bad or under > 2 * before
        print(
            f"{kind}: quiet p50 {quiet.of(kind, 0.5):.1f} p95 {before:.1f} ms, "
            f"under rubbish p50 {loaded.of(kind, 0.5):.1f} p95 {under:.1f} ms, p95 ratio {under / before:.2f}"
        )
    print(f"attacker: {said}; failed calls: {len(quiet.failed)} quiet, {len(loaded.failed)} under rubbish")
    for error in [*quiet.failed, *loaded.failed][:3]:
        print(f"  {error}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
