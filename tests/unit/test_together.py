"""Of coroutines side by side none goes on when one of them failed, and errors come out as they are."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from ndn_infer.errors import BadRecord, FetchIncomplete
from ndn_infer.functions.cite import CheckCitations
from ndn_infer.records.cite import CiteRequest
from ndn_infer.together import both, together
from ndn_infer.transport.objects.passages import PassageReader


async def number(of: int, after: int = 0) -> int:
    for _ in range(after):
        await asyncio.sleep(0)
    return of


async def test_results_are_in_order() -> None:
    assert await together(number(of, 5 - of) for of in range(5)) == [0, 1, 2, 3, 4]
    assert await together(()) == []


async def test_an_error_comes_when_the_others_have_ended() -> None:
    ended: list[str] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("other")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise BadRecord("no")

    with pytest.raises(BadRecord):
        await together([never(), together([never(), fails()])])
    assert ended == ["other", "other"]


async def test_of_two_that_give_different_things_neither_goes_on_alone() -> None:
    async def text() -> str:
        return "a"

    assert await both(number(3), text()) == (3, "a")
    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> str:
        await asyncio.sleep(0)
        raise BadRecord("no")

    with pytest.raises(BadRecord):
        await both(never(), fails())
    assert ended.is_set()


async def test_who_is_cancelled_cancels_them() -> None:
    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.ensure_future(together([never()]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_cite_fetches_no_passage_more_when_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading: set[str] = set()

    async def read(reader: PassageReader, uri: str) -> None:
        reading.add(uri)
        try:
            await asyncio.sleep(0)
            if uri == "/2":
                raise FetchIncomplete("there is no passage")
            await asyncio.Event().wait()
        finally:
            reading.discard(uri)

    monkeypatch.setattr(PassageReader, "parse", lambda reader, uri: None)
    monkeypatch.setattr(PassageReader, "read", read)
    job = SimpleNamespace(host=SimpleNamespace(fetcher=None, net=b""), domain=None)
    with pytest.raises(FetchIncomplete):
        await CheckCitations().run(CiteRequest("why?", "so [1]", ("/1", "/2", "/3")), job)  # type: ignore[arg-type]
    assert not reading
