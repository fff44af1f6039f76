"""A link to a forwarder that harms what comes back: `python -m tests.vllm.relay LISTEN FORWARDER RECORD`.

Reads one word a line from standard input, the harm from then on, and prints what the one before did: [packets harmed,
KV blocks that they belong to]. Each concerns segments of KV blocks alone, about every other one, and these whenever
they come.

    none      as it comes
    flip      one byte is another one
    cut       an empty Data of the same name
    swap      the second half is that of the segment before
    late      no segment comes, of any block
    hold      nothing comes back
    part      after twenty more segments nothing comes back: a network that is partitioned in the middle of a load

Everything that comes is written to two files: RECORD.up from the application, RECORD.down to it, unharmed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from ndn_infer import ndn
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import METADATA, SEGMENT

PART_AFTER = 20
LP, FRAGMENT, DATA = 0x64, 0x50, 0x06
OF_A_BLOCK = 5
"""Components of a block's name from `kv` on."""


class Harm:
    def __init__(self) -> None:
        self.kind = "none"
        self.done = 0
        self.blocks: set[bytes] = set()
        self.passed = 0
        """Segments since the kind of harm was said."""
        self._before = b""

    def begin(self, kind: str) -> tuple[int, int]:
        """What was done until now."""
        done = self.done, len(self.blocks)
        self.kind, self.done, self.blocks, self.passed = kind, 0, set(), 0
        return done

    def of(self, packet: bytes) -> bytes | None:
        """What is passed on of a packet towards the application; None: nothing."""
        name = data_name_tlv(packet)
        block = block_of(name)
        if self.kind == "hold" or (self.kind == "part" and self.passed >= PART_AFTER):
            return self._harmed(block, None)
        self.passed += bool(block)
        if not block or self.kind in ("none", "part"):
            return packet
        before, self._before = self._before, packet
        if self.kind == "late":
            return self._harmed(block, None)
        return packet if zlib.crc32(name) % 2 else self._harmed(block, self._other(packet, name, before))

    def _other(self, packet: bytes, name: bytes, before: bytes) -> bytes:
        half = len(packet) // 2
        if self.kind == "flip":
            return packet[:half] + bytes([packet[half] ^ 1]) + packet[half + 1 :]
        if self.kind == "cut":
            return tlv.encode_tlv(DATA, name)
        if self.kind == "swap" and len(before) == len(packet):
            return packet[:half] + before[half:]
        return packet

    def _harmed(self, block: bytes, packet: bytes | None) -> bytes | None:
        self.done += 1
        if block:
            self.blocks.add(block)
        return packet


def block_of(name_tlv: bytes) -> bytes:
    """The name of the KV block that a segment of this name belongs to; b"" for other Data."""
    if not name_tlv or METADATA in name_tlv:
        return b""
    _, value, end = tlv.read_header(name_tlv, 0, len(name_tlv))
    parts = ndn.components(name_tlv[value:end])
    kv = ndn.generic("kv")
    if kv not in parts or ndn.component_type(parts[-1]) != SEGMENT:
        return b""
    return b"".join(parts[: parts.index(kv) + OF_A_BLOCK])


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


async def main(listen: str, forwarder: str, records: tuple[BinaryIO, BinaryIO]) -> None:
    harm = Harm()

    async def on_link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(forwarder)

        async def up() -> None:
            while got := await reader.read(1 << 16):
                records[0].write(got)
                up_writer.write(got)
                await up_writer.drain()
            up_writer.close()

        async def down() -> None:
            async for packet in packets(up_reader):
                records[1].write(packet)
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
            for record in records:
                record.flush()
            print(json.dumps(harm.begin(line.strip())), flush=True)


if __name__ == "__main__":
    with Path(f"{sys.argv[3]}.up").open("wb") as up, Path(f"{sys.argv[3]}.down").open("wb") as down:
        asyncio.run(main(sys.argv[1], sys.argv[2], (up, down)))
