"""Files of a prompt log and its writers when threads meet, and after a crash."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ndn_infer.prompt_log.live.spool import Spool


def test_what_is_spooled_at_once_is_spooled_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    entries = [f"entry {number}".encode() for number in range(50)]
    with ThreadPoolExecutor(50) as threads:
        list(threads.map(spool.put, entries))
    assert len(spool) == len(list((tmp_path / "spool").glob("*.entry"))) == 50
    again, found = Spool(tmp_path / "spool", 1 << 20), []
    while (entry := again.first()) is not None:
        found.append(entry)
        again.done()
    assert sorted(found) == sorted(entries)
