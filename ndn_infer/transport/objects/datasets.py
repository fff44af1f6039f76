"""Reading a forwarder's management datasets, whichever forwarder it is.

Owns: fetching versioned, segmented datasets and decoding those that `status` shows. Must not know: commands
(registration.py). Datasets are local and about now: they are not verified (NFD signs them with a throw-away key).
"""

from __future__ import annotations

from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.tlv import decode_nonneg
from ndn_infer.transport.link.endpoint import Endpoint

_PREFIX: Final = ndn.from_uri("/localhost/nfd")
_FACE: Final = {
    0x69: "face_id", 0x90: "in_interests", 0x91: "in_data", 0x97: "in_nacks", 0x92: "out_interests", 0x93: "out_data",
    0x98: "out_nacks", 0x94: "in_bytes", 0x95: "out_bytes", 0x84: "scope", 0x85: "persistency",
}  # fmt: skip
_GENERAL: Final = {
    0x84: "fib_entries", 0x85: "pit_entries", 0x87: "cs_entries", 0x90: "in_interests", 0x91: "in_data",
    0x97: "in_nacks", 0x92: "out_interests", 0x93: "out_data", 0x98: "out_nacks", 0x99: "satisfied",
    0x9A: "unsatisfied",
}  # fmt: skip
_ROUTE: Final = {0x69: "face_id", 0x6F: "origin", 0x6A: "cost", 0x6C: "flags"}
_STORE: Final = {0x83: "capacity", 0x87: "entries", 0x81: "hits", 0x82: "misses"}
MAX_SEGMENTS: Final = 1000


class Datasets:
    """All methods raise Timeout or Nacked when no forwarder answers, BadPacket for nonsense."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def fetch(self, module: str, dataset: str) -> bytes:
        """The newest version of a dataset. NFD names the last segment in that segment alone, others in all of them."""
        name = _PREFIX + ndn.generic(module) + ndn.generic(dataset)
        data, _ = await self._endpoint.express(name, can_be_prefix=True, must_be_fresh=True, lifetime_ms=2000)
        base, pieces = ndn.prefix(data.name, -1), []
        for number in range(MAX_SEGMENTS):
            wanted = base + ndn.segment(number)
            if data.name != wanted:
                data, _ = await self._endpoint.express(wanted, lifetime_ms=2000)
            pieces.append(data.content)
            if data.final_block is not None and ndn.component_number(data.final_block, ndn.SEGMENT) <= number:
                return b"".join(pieces)
        raise BadPacket(f"{ndn.to_uri(name)} has more than {MAX_SEGMENTS} segments")

    async def general(self) -> dict[str, Any]:
        content = await self.fetch("status", "general")
        values = _numbers(content, _GENERAL)
        for kind, value, after in tlv.iterate(content):
            if kind == 0x80:
                values["version"] = content[value:after].decode("utf-8", "replace")
        return values

    async def faces(self) -> list[dict[str, Any]]:
        rows = []
        for entry in _entries(await self.fetch("faces", "list")):
            row = _numbers(entry, _FACE)
            for kind, value, after in tlv.iterate(entry):
                if kind in (0x72, 0x81):
                    row["uri" if kind == 0x72 else "local_uri"] = entry[value:after].decode("utf-8", "replace")
            rows.append(row)
        return rows

    async def routes(self) -> list[dict[str, Any]]:
        """One row a route: prefix (URI), face_id, origin, cost, flags."""
        rows = []
        for entry in _entries(await self.fetch("rib", "list")):
            prefix = "/"
            for kind, value, after in tlv.iterate(entry):
                if kind == tlv.NAME:
                    prefix = ndn.to_uri(entry[value:after])
                elif kind == 0x81:
                    rows.append({"prefix": prefix, **_numbers(entry[value:after], _ROUTE)})
        return rows

    async def content_store(self) -> dict[str, Any]:
        entries = _entries(await self.fetch("cs", "info"))
        if not entries:
            raise BadPacket("cs/info is empty")
        return _numbers(entries[0], _STORE)


def _entries(content: bytes) -> list[bytes]:
    return [content[value:after] for kind, value, after in tlv.iterate(content) if kind == 0x80]


def _numbers(content: bytes, fields: dict[int, str]) -> dict[str, Any]:
    return {
        fields[kind]: decode_nonneg(content[value:after])
        for kind, value, after in tlv.iterate(content)
        if kind in fields
    }
