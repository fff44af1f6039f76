"""Loading the KV of a prompt: what is done side by side ends together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from ndn_infer.errors import StoreFull
from ndn_infer.kv.load import KvLoader
from ndn_infer.kv.plan import Costs
from ndn_infer.kv.prefix import Located


async def test_kv_that_is_fetched_is_left_when_asking_for_the_rest_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    left = asyncio.Event()

    async def held(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def from_prefill(*_: object) -> None:
        await asyncio.sleep(0)
        raise StoreFull("no room for token blocks")

    async def locate(*_: object) -> Located:
        return Located([bytes(32)], [], [])

    monkeypatch.setattr(KvLoader, "_held", held)
    monkeypatch.setattr(KvLoader, "_from_prefill", from_prefill)
    monkeypatch.setattr(KvLoader, "_costs", lambda loader: Costs(1, 16))
    monkeypatch.setattr(KvLoader, "_layered", lambda *_: False)
    monkeypatch.setattr(KvLoader, "_is_prefill", lambda loader: False)
    blocks = SimpleNamespace(chain=lambda ids: [], block_tokens=16)
    connector = SimpleNamespace(host=None, blocks=blocks, locate=locate)
    with pytest.raises(StoreFull):
        await KvLoader(connector, None).load((1, 2), SimpleNamespace(holders=()))  # type: ignore[arg-type]
    assert left.is_set()
