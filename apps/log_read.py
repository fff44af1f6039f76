"""log checkpoint, show, verify, receipt, export, erase: what reads a log, or destroys a key of it.

Owns: what is fetched and printed. Must not know: how proofs are made (prompt_log/), processes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndn_infer import clock, ndn, records
from ndn_infer.apps.log_serve import folder_of
from ndn_infer.config import Config
from ndn_infer.console.terminal import one_line
from ndn_infer.errors import BadRecord, NdnInferError, NetworkError, TrustError, UsageError
from ndn_infer.files import write_at_once
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import LOG, Machine, certificates_prefix, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.prompt_log import merkle
from ndn_infer.prompt_log.checkpoint import CONSISTENT, Checkpoint, compare
from ndn_infer.prompt_log.entries import LeafEntry, key_id, opened
from ndn_infer.prompt_log.live.client import LogClient
from ndn_infer.prompt_log.live.reader import LogReader
from ndn_infer.prompt_log.live.users import UserKeys, user_of
from ndn_infer.prompt_log.live.witness import Witness, words
from ndn_infer.prompt_log.receipt import verify_receipt
from ndn_infer.prompt_log.said import PromptRecord
from ndn_infer.security.crypto import PublicKey, Signer
from ndn_infer.security.domain_keys import DecryptionKey
from ndn_infer.security.keychain import Keychain
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.direct import Direct
from ndn_infer.transport.objects.serve import Server

SHOWN = 20


@dataclass(frozen=True, slots=True)
class _LogAtHand:
    options: argparse.Namespace
    node: Node
    reader: LogReader

    @property
    def log(self) -> Name:
        return self.reader.names.log

    def keys(self) -> dict[bytes, DecryptionKey]:
        """The keys of users on this machine, by their ids."""
        folder = folder_of(self.options, self.node.config) / "users"
        if not folder.is_dir():
            raise UsageError(f"{folder} has no users' keys: records are read on the log's machine")
        found = UserKeys(folder)
        return {key_id(key.public): key for user in found.users() if (key := found.private(user)) is not None}


@asynccontextmanager
async def _open(options: argparse.Namespace, config: Config) -> AsyncIterator[_LogAtHand]:
    keychain = ensure_keys(config, ROLES)
    log = ndn.from_uri(options.log) if options.log else role_identity(config, LOG)
    node = await Node.join(config, keychain, offer_own=True)
    try:
        yield _LogAtHand(options, node, LogReader.of(node.net, log, node.fetcher, node.validator))
    finally:
        await node.close()


def _print(options: argparse.Namespace, document: Any, text: str) -> None:
    print(json.dumps(document) if options.json else text)


async def checkpoint(options: argparse.Namespace, config: Config) -> int:
    async with _open(options, config) as log:
        found, _ = await log.reader.checkpoint()
        _print(options, _document(found), f"{found.log}: {found.size} records, root {found.root.hex()}")
    return 0


def _document(found: Checkpoint) -> dict[str, Any]:
    return {"log": found.log, "size": found.size, "root": found.root.hex(), "time_s": found.time_s}


# ---------------------------------------------------------------- verify


async def verify(options: argparse.Namespace, config: Config) -> int:
    """The newest checkpoint continues what this machine saw before, and what witnesses saw. Exit status 4 otherwise."""
    async with _open(options, config) as log:
        said, verdict = await Witness(config.keys_dir.parent / "log-seen").look(log.reader)
        lines, faults = [f"{words(said)} [{verdict}]"], [verdict] if said.fault or verdict != CONSISTENT else []
        newest = records.decode(Checkpoint, said.checkpoint)
        for uri in config.recording.witnesses:
            text, fault = await _by_witness(log, ndn.from_uri(uri), newest)
            lines.append(text)
            faults += [text] if fault else []
        if options.all:
            await _every_entry(log, newest)
            lines.append(f"{newest.size} entries are those of the tree")
        _print(options, {**_document(newest), "faults": faults, "said": lines}, "\n".join(map(one_line, lines)))
    return 4 if faults else 0


async def _by_witness(log: _LogAtHand, witness: Name, newest: Checkpoint) -> tuple[str, bool]:
    """What a witness says, and whether it or the log is not to be believed. A witness that is away proves nothing."""
    name = ndn.to_uri(witness)
    try:
        said = await log.reader.witnessed(witness)
    except (NetworkError, TrustError) as error:
        return f"{name} says nothing: {error}", True
    if said is None:
        return f"{name} has not seen this log", True
    if said.fault:
        return f"{name}: {words(said)}", True
    theirs = records.decode(Checkpoint, said.checkpoint)
    try:
        verdict = await log.reader.with_tiles(max(theirs.size, newest.size), lambda read: compare(theirs, newest, read))
    except BadRecord as error:
        return f"{name} saw another log: {error}", True
    return f"{name} saw {theirs.size} records: {verdict}", verdict != CONSISTENT


async def _every_entry(log: _LogAtHand, newest: Checkpoint) -> None:
    """Raises BadRecord for an entry that is not what the tree says."""
    for index in range(newest.size):
        entry = await log.reader.entry(index)
        leaf = await log.reader.with_tiles(newest.size, lambda read, at=index: read(0, at))  # type: ignore[misc]
        if merkle.leaf_hash(entry.leaf()) != leaf:
            raise BadRecord(f"entry {index} is not what the tree says")


# ---------------------------------------------------------------- records


async def receipt(options: argparse.Namespace, config: Config) -> int:
    """FILE has the receipt, FILE.leaf the leaf in hex, FILE.pem the log's key: what scitt-cose takes."""
    if len(options.what) != 1 or options.out is None:
        raise UsageError("of which record, and where to? ndn-infer log receipt INDEX --out FILE")
    async with _open(options, config) as log:
        newest, public = await log.reader.checkpoint()
        entry, made = await log.reader.proved(_index(options.what[0]), newest)
        root, proof = verify_receipt(made, entry.leaf(), PublicKey.from_spki(public))
        out: Path = options.out
        write_at_once(out, made, mode=0o644)
        write_at_once(out.with_name(out.name + ".leaf"), entry.leaf().hex().encode(), mode=0o644)
        write_at_once(out.with_name(out.name + ".pem"), PublicKey.from_spki(public).to_pem(), mode=0o644)
        document = {"index": proof.index, "size": proof.size, "root": root.root.hex(), "bytes": len(made)}
        _print(options, document, f"{out}: record {proof.index} of {proof.size}, {len(made)} bytes")
    return 0


async def show(options: argparse.Namespace, config: Config) -> int:
    async with _open(options, config) as log:
        newest, _ = await log.reader.checkpoint()
        indexes = [*map(_index, options.what)] or [*range(max(0, newest.size - SHOWN), newest.size)]
        keys, found = log.keys(), []
        for index in indexes:
            entry, _ = await log.reader.proved(index, newest)
            found.append(_said(index, entry, keys))
        _print(options, found, "\n".join(map(_line, found)))
    return 0


async def export(options: argparse.Namespace, config: Config) -> int:
    """Every record about a user, one JSON line each, with its receipt."""
    async with _open(options, config) as log:
        newest, _ = await log.reader.checkpoint()
        private = UserKeys(folder_of(options, config) / "users").private(user_of(log.log, options.user))
        if private is None:
            raise UsageError(f"this log has no key of {options.user!r}: never recorded, erased, or on another machine")
        mine, lines = {key_id(private.public): private}, []
        for index in range(newest.size):
            entry = await log.reader.entry(index)
            if entry.sealed is not None and entry.sealed.user in mine:
                proved, made = await log.reader.proved(index, newest)
                lines.append(json.dumps({**_said(index, proved, mine), "receipt": made.hex()}) + "\n")
        if options.out is not None:
            write_at_once(options.out, "".join(lines).encode())
            print(f"{options.out}: {len(lines)} records about {options.user}", file=sys.stderr)
        else:
            print("".join(lines), end="")
    return 0


async def erase(options: argparse.Namespace, config: Config) -> int:
    keychain = ensure_keys(config, ROLES)
    async with _open(options, config) as log:
        machine = Machine(config.network.site, config.network.node).to_name(log.node.net)
        identities = {
            "operator": operator_identity(log.node.net), "node": machine, "site": ndn.prefix(machine, -1)
        }  # fmt: skip
        signer = keychain.signer_for(identities[options.signer])
        await _vouched(log.node, keychain, signer)
        client = LogClient(Direct(log.node.endpoint, log.node.validator), log.log, signer)
        done = await client.erase(options.user)
        document = {"user": options.user, "key": done.key.hex(), "index": done.index if done.key else None}
        text = f"the key of {options.user} is destroyed; record {done.index} of the log says so"
        _print(options, document, text if done.key else f"the log has no key of {options.user}: nothing to erase")
    return 0


async def _vouched(node: Node, keychain: Keychain, signer: Signer) -> None:
    """A log on another machine asks us for the certificate that vouches for the command; one on this machine has it."""
    keys = certificates_prefix(signer.identity)
    Server(node.endpoint, ObjectStore(0)).answer_certificates(keys, keychain.certificates)
    try:
        await node.registrar.register(keys)
    except NdnInferError as error:
        print(f"  {one_line(str(error))}; the log must have our certificates", file=sys.stderr)


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise UsageError(f"{text!r} is no record's number")
    return int(text)


def _said(index: int, entry: LeafEntry, keys: dict[bytes, DecryptionKey]) -> dict[str, Any]:
    """A record in clear, or why not."""
    if entry.erased is not None:
        return {"index": index, "kind": "erased", "key": entry.erased.user.hex(), "time_us": entry.erased.time_us,
                "by": entry.erased.by}  # fmt: skip
    assert entry.sealed is not None
    private = keys.get(entry.sealed.user)
    if private is None:
        return {"index": index, "kind": "unreadable", "key": entry.sealed.user.hex()}
    try:
        record = records.decode(PromptRecord, opened(entry.sealed, private))
    except NdnInferError as error:
        return {"index": index, "kind": "damaged", "why": str(error)}
    return {"index": index, **asdict(record)}


def _line(found: dict[str, Any]) -> str:
    """Users, writers and texts are what others wrote: none has a line of its own."""
    head = f"{found['index']:>7}  {found['kind']:<10}"
    if found["kind"] not in ("asked", "answered"):
        return one_line(f"{head}  {found.get('by', '') or found.get('key', '') or found.get('why', '')}")
    text = found["text"] or " ".join(one["content"] for one in found["messages"]) or f"{len(found['ids'])} token ids"
    when = clock.wall_s() - found["time_us"] / 1e6
    said = " ".join(text.split())[:160]
    return one_line(f"{head}  {found['call']}  {when:.0f} s ago  {found['user']}: {said}")
