"""A link to a forwarder that harms what comes back: `python -m tests.vllm.relay LISTEN FORWARDER`.

Reads one word a line from standard input: the harm from then on. Each concerns segments of objects alone (large Data).

    none      as it comes
    flip      one byte of every third segment is another one
    cut       every third segment is an empty Data of the same name
    swap      every third segment has the bytes of the one before
    hold      nothing comes back
    part      after twenty more segments nothing comes back: a network that is partitioned in the middle of a load
    stale     metadata is answered with the first packet that ever came under its name, where there is one
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import METADATA

LARGE = 2000
PART_AFTER = 20
LP, FRAGMENT, DATA = 0x64, 0x50, 0x06


class Harm:
    def __init__(self) -> None:
        self.kind = "none"
        self.count = 0
        self.done = 0
        self.passed = 0
        """Segments since the kind of harm was said."""
        self._before = b""
        self._first: dict[bytes, bytes] = {}

    def of(self, packet: bytes) -> bytes | None:
        """What is passed on of a packet towards the application; None: nothing."""
        if self.kind == "hold" or (self.kind == "part" and self.passed >= PART_AFTER):
            self.done += self.kind == "part"
            return None
        self.passed += len(packet) >= LARGE
        if METADATA in packet:
            return self._metadata(packet)
        if len(packet) < LARGE or self.kind == "none":
            return packet
        self.count += 1
        before, self._before = self._before, packet
        if self.count % 3:
            return packet
        self.done += 1
        if self.kind == "flip":
            at = len(packet) // 2
            return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]
        if self.kind == "cut":
            return tlv.encode_tlv(DATA, data_name_tlv(packet))
        if self.kind == "swap" and len(before) == len(packet):
            half = len(packet) // 2
            return packet[:half] + before[half:]
        return packet

    def _metadata(self, packet: bytes) -> bytes:
        at = packet.index(METADATA)
        key = packet[max(at - 120, 0) : at]
        first = self._first.setdefault(key, packet)
        if self.kind == "stale" and first != packet:
            self.done += 1
            return first
        return packet


def data_name_tlv(packet: bytes) -> bytes:
    """The name of the Data in a packet, as it stands there."""
    kind, value, end = tlv.read_header(packet, 0, len(packet))
    while kind == LP:
        at = value
        while at < end:
            inner, value, after = tlv.read_header(packet, at, end)
            if inner == FRAGMENT:
                kind, value, end = tlv.read_header(packet, value, after)
                break
            at = after
        else:
            return b""
    _, _, after = tlv.read_header(packet, value, end)
    return packet[value:after]


async def packets(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Outermost TLVs of a stream."""
    buffer = b""
    while True:
        got = await reader.read(1 << 16)
        if not got:
            return
        buffer += got
        while len(buffer) >= 2:
            size = size_of(buffer)
            if size is None or len(buffer) < size:
                break
            yield buffer[:size]
            buffer = buffer[size:]


def size_of(buffer: bytes) -> int | None:
    """Bytes of the TLV that begins here; None when that cannot be told yet."""
    at = 1
    if len(buffer) < at + 9 and buffer[1] > 252:
        return None if len(buffer) < at + 1 + 2 ** (buffer[1] - 252) else _size(buffer, at)
    return _size(buffer, at)


def _size(buffer: bytes, at: int) -> int:
    first = buffer[at]
    if first < 253:
        return at + 1 + first
    width = 2 ** (first - 252)
    return at + 1 + width + int.from_bytes(buffer[at + 1 : at + 1 + width], "big")


async def main(listen: str, forwarder: str) -> None:
    harm = Harm()

    async def on_link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(forwarder)

        async def up() -> None:
            while got := await reader.read(1 << 16):
                up_writer.write(got)
                await up_writer.drain()
            up_writer.close()

        async def down() -> None:
            async for packet in packets(up_reader):
                passed = harm.of(packet)
                if passed is not None:
                    writer.write(passed)
                    await writer.drain()
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)

    async with await asyncio.start_unix_server(on_link, listen):
        print("READY", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            harm.kind = line.strip()
            print(harm.done, flush=True)
            harm.done = harm.passed = 0


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
