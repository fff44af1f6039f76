"""The policy that a user means: a file, an alias that the operator signed, or a digest.

Owns: this choice. Must not know: what a policy says.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from ndn_infer import records
from ndn_infer.errors import BadRecord, DigestMismatch, NetworkError, UsageError
from ndn_infer.files import path_of
from ndn_infer.guard.policy import digest_of
from ndn_infer.guard.policy_file import read_policy
from ndn_infer.guard.policy_form import encode
from ndn_infer.namespace import CatalogRecord, PolicyObject
from ndn_infer.node.node import Node
from ndn_infer.records.guard import MAX_POLICY, PolicyRecord

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENDINGS: Final = (".toml", ".json")
"""Of what can only be a file."""


def policy_in_file(path: Path) -> bytes:
    """Its canonical form. Raises UsageError, which says what is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_POLICY + 1)
        return encode(read_policy(content))
    except OSError as error:
        raise UsageError(f"cannot read the policy in {path}: {error.strerror}") from error
    except BadRecord as error:
        raise UsageError(f"{path}: {error}", hint=f"ndn-infer guard policy check {path}; docs/guard.md") from error


async def find_policy(text: str, node: Node) -> bytes:
    """Its canonical form. A text that names a file here is that file. Raises UsageError, NetworkError, TrustError,
    DigestMismatch, BadRecord."""
    if (here := await asyncio.to_thread(in_file, text)) is not None:
        return here
    try:
        fetched = await node.fetcher.fetch(
            CatalogRecord("policy", text).to_name(node.net), most=records.most_bytes(PolicyRecord)
        )
    except NetworkError as error:
        if _DIGEST.fullmatch(text):
            return await _by_digest(text, node)
        hint = "give a file, or have the operator sign it: ndn-infer guard policy sign FILE"
        raise UsageError(f"there is no file {text}, and no policy of that name in this network", hint=hint) from error
    record = records.decode(PolicyRecord, fetched.content)
    return _checked(record.policy, record.digest)


async def _by_digest(digest: str, node: Node) -> bytes:
    fetched = await node.fetcher.fetch(PolicyObject(digest).to_name(node.net), most=MAX_POLICY)
    return _checked(bytes(fetched.content), digest)


def in_file(text: str) -> bytes | None:
    """The canonical form of the policy in this file; None for a text that is no file here and may be a name (a folder
    of that name is none). Raises UsageError for a file that is not there, cannot be read, or holds no policy."""
    path = path_of(text)
    if (path.exists() and not path.is_dir()) or text.lower().endswith(_ENDINGS):
        return policy_in_file(path)
    if not _ALIAS.fullmatch(text):
        hint = "it is a folder" if path.is_dir() else ""
        raise UsageError(f"there is no policy file {text[:300]}", hint=hint)
    return None


def _checked(wire: bytes, digest: str) -> bytes:
    if digest_of(wire) != digest:
        raise DigestMismatch("the policy is not the one whose digest is in its name")
    return wire
