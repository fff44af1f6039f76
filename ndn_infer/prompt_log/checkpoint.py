"""Checkpoints: how many records a log has and the root over them, in words that the log and its witnesses sign.

Owns: the records, and judging a checkpoint against one that was seen before. Must not know: how tiles are fetched,
where what was seen is kept.

The signature in a checkpoint is that of all receipts of its tree (receipt.py), so whoever has the checkpoint and some
tiles makes any record's receipt without asking the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ndn_infer import ndn
from ndn_infer.errors import BadRecord
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log import merkle
from ndn_infer.prompt_log.merkle import HASH_BYTES, MAX_PROOF, MAX_SIZE, ReadNode
from ndn_infer.prompt_log.receipt import Root, verify_root
from ndn_infer.records import Reply
from ndn_infer.records.bounds import AtMost, Between, Clipped, Label, Size, Uri
from ndn_infer.security.crypto import PublicKey

Hash = Annotated[bytes, AtMost(HASH_BYTES, HASH_BYTES)]
CONSISTENT: Final = "consistent"
FORK: Final = "fork"
TRUNCATED: Final = "truncated"
REWRITTEN: Final = "rewritten"


@dataclass(frozen=True, slots=True)
class Checkpoint(Reply):
    """`log` is the identity (URI) of the log, `time_s` when it was signed (seconds of the Unix epoch), `key_id` the
    SHA-256 of the public key (SPKI) with which; `signature` is the COSE signature over the root, 64 bytes."""

    max_bytes: ClassVar[int] = 2048
    log: Uri
    size: Annotated[int, Between(1, MAX_SIZE)]
    root: Hash
    time_s: Size
    key_id: Hash
    signature: Annotated[bytes, AtMost(64, 64)]

    def signed(self) -> Root:
        """What `signature` is over."""
        return Root(self.root, self.log, f"{self.log}/checkpoint/v={self.size}", self.time_s, self.key_id)

    def verify(self, log: Name, key: PublicKey) -> None:
        """Raises BadRecord for a checkpoint of another log, or one that its key did not sign."""
        if ndn.from_uri(self.log) != log:
            raise BadRecord(f"a checkpoint of {self.log}, not of {ndn.to_uri(log)}")
        if not verify_root(self.signed(), self.signature, key):
            raise BadRecord(f"the checkpoint of {self.log} is not signed by its key")


@dataclass(frozen=True, slots=True)
class Witnessed(Reply):
    """What a witness saw of a log: `checkpoint` is the newest that continues all that it saw before (an encoded
    Checkpoint), since `since_s`. `fault` is fork, truncated or rewritten where the log showed another one, `against`,
    that does not; `why` says more. A witness that found a fault keeps it: who forked once is not to be trusted."""

    max_bytes: ClassVar[int] = 8192
    checkpoint: Annotated[bytes, AtMost(2048)]
    time_s: Size
    since_s: Size = 0
    fault: Label = ""
    against: Annotated[bytes, AtMost(2048)] = b""
    why: Annotated[str, Clipped(500)] = ""


def compare(seen: Checkpoint, new: Checkpoint, read: ReadNode) -> str:
    """What a checkpoint is to one that was seen before: CONSISTENT, or what is wrong. Both were verified; `read` reads
    the log's tiles. A proof is made out of them, and judged as one from anybody. Raises BadRecord where they end too
    early for one."""
    old, now = sorted((seen, new), key=lambda one: one.size)
    if old.size == now.size:
        return CONSISTENT if old.root == now.root else FORK
    proof = merkle.consistency(old.size, now.size, read)
    if len(proof) <= MAX_PROOF and merkle.verify_consistency(old.size, now.size, old.root, now.root, proof):
        return CONSISTENT
    return REWRITTEN
