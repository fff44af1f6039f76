"""The best plain clients that Python has for HTTP and Redis, to be compared with: one timed download a process.

Owns: HTTP and RESP as far as a download needs them, into a buffer that was allocated before. Must not know: who serves.
The connection stands before the time begins, as ours to the forwarder does. With `verify` the SHA-256 of the content is
computed as it comes, within the time; without, afterwards.

    python -m ndn_infer.testbed.bench.fetch_client http '{"port": ..., "path": ..., "size": ..., "verify": true}'
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import sys
import time
from collections import deque
from typing import Any, Final, Protocol

from ndn_infer.testbed.bench.fetch_child import client_main
from ndn_infer.testbed.bench.forwarders import CannotMeasure

READ_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 8000
"""The content of one of our segments."""
KEYS_A_COMMAND: Final = 64
COMMANDS_AHEAD: Final = 4
SILENCE_S: Final = 30.0


class _Reads(Protocol):
    def __call__(self, view: memoryview, /) -> int | None: ...


def _drain(read: _Reads, view: memoryview, *, verify: bool) -> str:
    """Fill `view`; the SHA-256 when it was asked for, else ""."""
    digest, at = hashlib.sha256(), 0
    while at < len(view):
        count = read(view[at : at + READ_BYTES])
        if not count:
            raise CannotMeasure("the server closed the connection")
        if verify:
            digest.update(view[at : at + count])
        at += count
    return digest.hexdigest() if verify else ""


def _result(began: float, digest: str, content: bytearray) -> dict[str, Any]:
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "sha256": digest or hashlib.sha256(content).hexdigest()}


# ---------------------------------------------------------------- HTTP


def http_get(port: int, path: str, size: int, *, verify: bool) -> dict[str, Any]:
    content = bytearray(size)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_S)
    connection.connect()
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    if answer.status != http.HTTPStatus.OK or answer.length != size:
        raise CannotMeasure(f"HTTP status {answer.status}, {answer.length} bytes")
    return _result(began, _drain(answer.readinto, memoryview(content), verify=verify), content)


# ---------------------------------------------------------------- Redis


class Redis:
    """RESP over one socket: `address` is a path of a Unix socket, or a port of 127.0.0.1."""

    def __init__(self, address: str | int) -> None:
        if isinstance(address, str):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(SILENCE_S)
            self._socket.connect(address)
        else:
            self._socket = socket.create_connection(("127.0.0.1", address), SILENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *parts: bytes | memoryview) -> None:
        head = b"*%d\r\n" % len(parts)
        for part in parts:
            self._socket.sendall(head + b"$%d\r\n" % len(part))
            self._socket.sendall(part)
            head = b"\r\n"
        self._socket.sendall(b"\r\n")

    def send_short(self, *parts: bytes) -> None:
        """In one system call."""
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))

    def line(self) -> bytes:
        found = bytearray()
        while not found.endswith(b"\r\n"):
            found += self._socket.recv(1) or b"-closed\r\n"
        if found[:1] == b"-":
            raise CannotMeasure(f"redis: {found.decode('utf-8', 'replace').strip()}")
        return bytes(found)

    def fill(self, view: memoryview, *, verify: bool = False) -> str:
        return _drain(self._socket.recv_into, view, verify=verify)

    def set(self, key: bytes, value: bytes | memoryview) -> None:
        self.send(b"SET", key, value)
        self.line()

    def close(self) -> None:
        self._socket.close()


def connected(address: str | int, *, within_s: float = 10.0) -> Redis:
    """A server that is just starting. Raises CannotMeasure when it does not answer in time."""
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            return Redis(address)
        except OSError as error:
            if time.monotonic() > give_up_at:
                raise CannotMeasure(f"redis-server did not start: {error}") from error
            time.sleep(0.05)


def redis_get(address: str | int, size: int, *, verify: bool) -> dict[str, Any]:
    content = bytearray(size)
    redis = Redis(address)
    began = time.perf_counter()
    redis.send_short(b"GET", b"whole")
    if redis.line() != b"$%d\r\n" % size:
        raise CannotMeasure("redis: the value has another size")
    return _result(began, redis.fill(memoryview(content), verify=verify), content)


def redis_mget(address: str | int, size: int, *, verify: bool) -> dict[str, Any]:
    """The same content in values as small as our segments, many a command and several commands ahead."""
    content = bytearray(size)
    view = memoryview(content)
    redis = Redis(address)
    count = -(-size // CHUNK_BYTES)
    starts = deque(range(0, count, KEYS_A_COMMAND))
    digest = hashlib.sha256()
    began = time.perf_counter()
    ahead: deque[range] = deque()
    while starts or ahead:
        while starts and len(ahead) < COMMANDS_AHEAD:
            first = starts.popleft()
            ahead.append(range(first, min(first + KEYS_A_COMMAND, count)))
            redis.send_short(b"MGET", *(b"c%d" % number for number in ahead[-1]))
        _take_values(redis, ahead.popleft(), view, digest.update if verify else None)
    return _result(began, digest.hexdigest() if verify else "", content)


def _take_values(redis: Redis, numbers: range, view: memoryview, update: Any) -> None:
    """The reply to one MGET. Its size is known beforehand, so it is read at once; every header is compared."""
    pieces = [view[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES] for number in numbers]
    heads = [b"$%d\r\n" % len(piece) for piece in pieces]
    array = b"*%d\r\n" % len(pieces)
    reply = memoryview(bytearray(len(array) + sum(len(h) + len(p) + 2 for h, p in zip(heads, pieces, strict=True))))
    redis.fill(reply)
    at = len(array)
    good = reply[:at] == array
    for head, piece in zip(heads, pieces, strict=True):
        good = good and reply[at : at + len(head)] == head
        at += len(head)
        piece[:] = reply[at : at + len(piece)]
        if update is not None:
            update(piece)
        at += len(piece) + 2
    if not good:
        raise CannotMeasure("redis: values are missing")


if __name__ == "__main__":
    sys.exit(client_main({"http": http_get, "get": redis_get, "mget": redis_mget}, sys.argv[1:]))
