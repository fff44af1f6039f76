"""Objects of stock tools: what is checked of them, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, FetchIncomplete, Nacked
from ndn_infer.ndn.packet import Data, decode_data, encode_data
from ndn_infer.ndn.tlv import encode_nonneg, encode_tlv
from ndn_infer.transport.objects.foreign import fetch_foreign

BASE = ndn.from_uri("/lab/file")
VERSIONED = BASE + ndn.version(7)


@dataclass
class Tools:
    """Shaped like an Endpoint: answers by name, metadata by prefix."""

    packets: dict[ndn.Name, bytes] = field(default_factory=dict)

    def publish(self, content: bytes, *, size: int = 100, named: ndn.Name = VERSIONED, last: int | None = None) -> None:
        count = max(1, -(-len(content) // size))
        final = ndn.segment(count - 1 if last is None else last)
        metadata = BASE + ndn.METADATA
        self.packets[metadata] = encode_data(metadata + ndn.version(9) + ndn.segment(0), ndn.encode_name(named))
        for number in range(count):
            name = named + ndn.segment(number)
            self.packets[name] = encode_data(name, content[number * size : (number + 1) * size], final_block=final)

    async def express(self, name: ndn.Name, **_: object) -> tuple[Data, None]:
        if name not in self.packets:
            raise Nacked("no route")
        return decode_data(self.packets[name]), None


async def fetch(tools: Tools) -> bytes:
    return (await fetch_foreign(tools, BASE)).content  # type: ignore[arg-type]


async def test_an_object_as_ndnd_and_ndnts_describe_it() -> None:
    tools, content = Tools(), bytes(range(256)) * 40
    tools.publish(content)
    found = await fetch_foreign(tools, BASE)  # type: ignore[arg-type]
    assert (found.content, found.name, found.segments, found.digests) == (content, VERSIONED, 103, 103)
    metadata = BASE + ndn.METADATA
    more = ndn.encode_name(VERSIONED) + encode_tlv(0x1A, ndn.segment(102)) + encode_tlv(0xF500, encode_nonneg(10240))
    tools.packets[metadata] = encode_data(metadata + ndn.version(9) + ndn.segment(0), more)
    assert await fetch(tools) == content


async def test_what_is_no_such_object_is_refused_before_anything_is_fetched() -> None:
    tools = Tools()
    tools.publish(b"x", named=ndn.from_uri("/elsewhere/v=1"))
    with pytest.raises(BadPacket, match="names /elsewhere"):
        await fetch(tools)
    tools.publish(b"x", last=1 << 40)
    with pytest.raises(BadPacket, match="more than"):
        await fetch(tools)
    tools.packets[BASE + ndn.METADATA] = encode_data(BASE + ndn.METADATA, b"nonsense")
    with pytest.raises(BadPacket):
        await fetch(tools)


async def test_a_digest_that_is_wrong_and_a_segment_that_is_missing() -> None:
    tools = Tools()
    tools.publish(bytes(1000))
    name = VERSIONED + ndn.segment(3)
    good = tools.packets[name]
    tools.packets[name] = good[:-40] + bytes((good[-40] ^ 1,)) + good[-39:]
    with pytest.raises(BadPacket):
        await fetch(tools)
    del tools.packets[name]
    with pytest.raises(FetchIncomplete, match="segment 3"):
        await fetch(tools)
