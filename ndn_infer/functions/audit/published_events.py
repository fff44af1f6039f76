"""What a published answer says, out of the events of its stream.

Owns: joining events, and the text and end that tokens must have. Must not know: engines, packets, who published it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ndn_infer.engine.published import Top
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.functions.generation import text_of
from ndn_infer.records import GenerateRequest, TokenEvent


@dataclass(frozen=True, slots=True)
class PublishedEvents:
    """`told`: log probability and alternatives of each id, none where the events have none. `upto`: number of ids when
    event i is over."""

    ids: tuple[int, ...]
    told: tuple[tuple[float, Top], ...]
    text: str
    finish: str
    stopped_by: str
    upto: tuple[int, ...]
    holders: tuple[str, ...] = ()

    @classmethod
    def of(cls, events: Iterable[TokenEvent]) -> PublishedEvents:
        ids: list[int] = []
        told: list[tuple[float, Top]] = []
        text, upto, last = "", [], TokenEvent(())
        for event in events:
            ids += event.ids
            told += [(one.logprob, one.top) for one in event.logprobs]
            text += event.text
            upto.append(len(ids))
            last = event
        return cls(
            tuple(ids), tuple(told), text, last.finish, last.stopped_by, tuple(upto), last.kv_holders
        )  # fmt: skip

    def events_for(self, count: int) -> int:
        """How many events bring the first `count` ids."""
        return next((number for number, upto in enumerate(self.upto, 1) if upto >= count), len(self.upto))


@dataclass(frozen=True, slots=True)
class RightText:
    """Text and end that `ids` have. `stopped_at`: how many ids there were when a stop string came, 0 where none did."""

    text: str
    stopped_by: str
    stopped_at: int


async def right_text(request: GenerateRequest, tokenizer: ChatTokenizer, ids: tuple[int, ...], end: str) -> RightText:
    """As functions/answer_stream.py makes them; `end`: why the engine ended with the last of them, "" if it did not."""
    decoder, stops = await text_of(request, tokenizer)
    text = ""
    for number, token in enumerate(ids, 1):
        last = end if number == len(ids) else ""
        emit, stopped = stops.push(decoder.push(token) + (decoder.finish() if last else ""))
        text += emit
        if stopped:
            return RightText(text, stops.stopped_by, number)
        if last:
            text += stops.finish()
    return RightText(text, "", 0)
