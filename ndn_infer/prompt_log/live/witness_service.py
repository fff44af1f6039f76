"""A witness in the network: what it saw of each log is an object, and readers may show it what they saw.

Owns: publishing and the question `saw`. Must not know: how checkpoints are judged (witness.py), when to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.errors import CallError
from ndn_infer.namespace import WitnessedLog, asks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log.checkpoint import Checkpoint, Witnessed
from ndn_infer.prompt_log.live.book import Names
from ndn_infer.prompt_log.live.reader import LogReader, log_digest
from ndn_infer.prompt_log.live.witness import Witness
from ndn_infer.prompt_log.said import Saw, SawCheckpoint
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validated
from ndn_infer.transport.calls.direct import Questions, Topic
from ndn_infer.transport.objects.serve import Server

FRESHNESS_MS: Final = 100
SAW: Final = "saw"


@dataclass(slots=True)
class WitnessService:
    """`readers`: of the logs that are watched. What is said is signed by `signer`."""

    net: Name
    witness: Witness
    readers: Sequence[LogReader]
    server: Server
    signer: Signer

    def answer(self, questions: Questions) -> list[Name]:
        """Take what readers show, and answer with what was seen, from now on; the prefixes to register for it, and no
        more of the identity: a log may run beside it."""
        names = self._names()
        witnessed = ndn.prefix(WitnessedLog(names.site, names.node, log_digest(b"")).to_name(names.net), -1)
        self.server.serve(witnessed, self.signer)
        questions.answer(Topic(SAW, SawCheckpoint, self._saw), self.signer)
        return [witnessed, asks_prefix(self.signer.identity) + ndn.generic(SAW)]

    async def look(self, reader: LogReader) -> tuple[Witnessed, str]:
        """As Witness.look; what is said then is published."""
        said, verdict = await self.witness.look(reader)
        self._publish(reader.names.log, said)
        return said, verdict

    async def _saw(self, shown: SawCheckpoint, _: Validated | None) -> Saw:
        checkpoint = records.decode(Checkpoint, shown.checkpoint)
        for reader in self.readers:
            if ndn.to_uri(reader.names.log) == checkpoint.log:
                break
        else:
            raise CallError(f"{checkpoint.log} is not watched here", code="not-watched")
        public = await reader.public(checkpoint.key_id)
        said, verdict = await self.witness.judge(reader, checkpoint, public)
        self._publish(reader.names.log, said)
        return Saw(verdict)

    def _publish(self, log: Name, said: Witnessed) -> None:
        names = self._names()
        base = WitnessedLog(names.site, names.node, log_digest(log)).to_name(names.net)
        held, content = self.server.store.get(base), records.encode(said)
        if held is None or held.content() != content:
            self.server.publish(base, content, self.signer, freshness_ms=FRESHNESS_MS, pinned=True)

    def _names(self) -> Names:
        return Names.of(self.net, self.signer.identity)
