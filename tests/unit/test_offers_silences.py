"""Who did not answer a question for its offer. In made-up time."""

from __future__ import annotations

from typing import Final

from ndn_infer.errors import Nacked, Timeout
from ndn_infer.ndn.lp import REASON_CONGESTION, REASON_NO_ROUTE
from ndn_infer.offers.live.silences import Silence, Silences

SILENT: Final = Timeout("nothing")
NO_WAY: Final = Nacked("no way", reason=REASON_NO_ROUTE)
BUSY: Final = Nacked("busy", reason=REASON_CONGESTION)


def test_who_is_silent_is_left_alone_for_longer_each_time() -> None:
    found: list[Silence] = []
    for _ in range(6):
        found.append(Silence.after(found[-1] if found else None, 0.0))
    assert [silence.length_s for silence in found] == [2, 4, 8, 16, 30, 30]


def test_only_questions_that_were_due_put_the_next_one_off() -> None:
    silences = Silences()
    silences.failed(b"a", SILENT, 0.0, looked=True)
    for now in (0.5, 1.0, 1.5):
        silences.failed(b"a", SILENT, now, looked=False)
        silences.failed(b"b", SILENT, now, looked=False)
    assert not silences.due(b"a", 1.9) and silences.due(b"a", 2.0) and silences.due(b"b", 0.0)
    silences.answered(b"a")
    assert silences.due(b"a", 0.0)


def test_nothing_is_hoped_for_where_no_way_leads_nor_of_who_is_silent_time_and_again() -> None:
    silences = Silences()
    for name, error in ((b"silent", SILENT), (b"nowhere", NO_WAY), (b"busy", BUSY)):
        silences.failed(name, error, 0.0, looked=True)
    assert list(silences.hoped()) == [b"silent", b"busy"] and silences.is_nowhere(b"nowhere")
    silences.failed(b"silent", NO_WAY, 1.0, looked=False)
    silences.failed(b"nowhere", SILENT, 1.0, looked=False)
    assert list(silences.hoped()) == [b"nowhere", b"busy"]
    for now in (2.0, 6.0, 14.0, 30.0):
        silences.failed(b"busy", SILENT, now, looked=True)
    assert list(silences.hoped()) == [b"nowhere"]
    silences.answered(b"nowhere")
    assert not list(silences.hoped()) and not silences.is_nowhere(b"nowhere")


def test_who_is_not_looked_at_any_more_is_forgotten() -> None:
    silences = Silences()
    for name in (b"a", b"b", b"c"):
        silences.failed(name, NO_WAY, 0.0, looked=True)
    silences.keep({b"a"}, {b"b"})
    assert [silences.is_nowhere(name) for name in (b"a", b"b", b"c")] == [True, True, False]
    assert [silences.due(name, 0.0) for name in (b"a", b"b", b"c")] == [False, True, True]
    silences.clear()
    assert silences.due(b"a", 0.0)
