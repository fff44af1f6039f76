"""A witness: keeps the newest checkpoint of logs of other sites, and signs the next only when it continues that one.

Owns: what was seen of each log, as files; what is said of it. Must not know: when to look, how it is published.

What is found: another root of the same size, or a tree that does not begin with the one that was seen (a fork, or
rewriting); a smaller tree that was signed later (truncation). A smaller one that was signed earlier may be an old
packet that somebody played back, so it is no proof: `behind`. Readers hand in what they were shown: two readers of two
forks need not know each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ndn_infer import clock, records
from ndn_infer.errors import BadRecord, FetchIncomplete, StorageError
from ndn_infer.files import read_private, write_at_once
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log.checkpoint import CONSISTENT, FORK, TRUNCATED, Checkpoint, Witnessed, compare
from ndn_infer.prompt_log.live.reader import LogReader, judge, log_digest

BEHIND: Final = "behind"
"""An older tree than was seen: truncated, or an old packet."""
_MOST: Final = 8192


@dataclass(slots=True)
class Witness:
    """`folder` keeps what was seen."""

    folder: Path

    def seen(self, log: Name) -> Witnessed | None:
        """Raises StorageError, BadRecord."""
        content = read_private(self._path(log), _MOST, "what was seen of a log")
        return records.decode(Witnessed, content) if content is not None else None

    async def look(self, reader: LogReader) -> tuple[Witnessed, str]:
        """The newest checkpoint of a log, judged; what is now to be said of the log, and a verdict on the checkpoint.
        Raises what LogReader.checkpoint raises."""
        checkpoint, public = await reader.checkpoint()
        said, verdict = await self.judge(reader, checkpoint, public)
        newest = records.decode(Checkpoint, said.checkpoint)
        return said, BEHIND if verdict == CONSISTENT and checkpoint.size < newest.size else verdict

    async def judge(self, reader: LogReader, checkpoint: Checkpoint, public: bytes) -> tuple[Witnessed, str]:
        """The same of a checkpoint that a reader was shown, signed with the key `public` (SPKI). Raises BadRecord for
        one that the log did not sign, a NetworkError where its tiles cannot be had."""
        log = reader.names.log
        judge(checkpoint, log, public)
        before = self.seen(log)
        if before is None:
            return self._keep(log, Witnessed(records.encode(checkpoint), _now(), _now())), CONSISTENT
        old = records.decode(Checkpoint, before.checkpoint)
        verdict = await _verdict(reader, old, checkpoint)
        if self.seen(log) != before:  # somebody else showed one meanwhile: what was found of it stays
            return await self.judge(reader, checkpoint, public)
        if verdict == BEHIND or (verdict == CONSISTENT and (checkpoint.size < old.size or before.fault)):
            return before, verdict
        if verdict == CONSISTENT:
            return self._keep(log, replace(before, checkpoint=records.encode(checkpoint), time_s=_now())), CONSISTENT
        if before.fault:
            return before, verdict
        why = f"{verdict}: {checkpoint.size} records with root {checkpoint.root.hex()[:16]}, after {old.size} with "
        why += f"root {old.root.hex()[:16]}"
        found = replace(before, fault=verdict, against=records.encode(checkpoint), why=why, time_s=_now())
        return self._keep(log, found), verdict

    def _keep(self, log: Name, said: Witnessed) -> Witnessed:
        """Raises StorageError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror}") from error
        write_at_once(self._path(log), records.encode(said))
        return said

    def _path(self, log: Name) -> Path:
        return self.folder / log_digest(log)


async def _verdict(reader: LogReader, old: Checkpoint, new: Checkpoint) -> str:
    """Tiles are the log's own: where they end too early, so does the proof. Raises a NetworkError, also where packets
    of a tile were lost: that says nothing of the log."""
    if new.size < old.size and new.time_s > old.time_s:
        return TRUNCATED
    try:
        return await reader.with_tiles(max(old.size, new.size), lambda read: compare(old, new, read))
    except (BadRecord, FetchIncomplete) as error:
        if isinstance(error, FetchIncomplete) and error.missing:
            raise
        return BEHIND if new.size < old.size else FORK


def _now() -> int:
    return int(clock.wall_s())


def words(said: Witnessed) -> str:
    """What a witness says, in a line."""
    checkpoint = records.decode(Checkpoint, said.checkpoint)
    text = f"{checkpoint.log}: {checkpoint.size} records, root {checkpoint.root.hex()[:16]}"
    return f"{text}; FAULT {said.why}" if said.fault else text
