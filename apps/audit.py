"""Compute an answer of the network again, and say whether it is right.

ndn-infer audit --last                      the answer to the last question of this machine's user
ndn-infer audit NAME                        every token, with an engine of the answer's class on this machine
ndn-infer audit NAME --sample 0.1           a tenth of the answer, drawn by --seed; all of it where that looks wrong
ndn-infer audit NAME --kv                   the KV blocks of prompt and answer that somebody publishes
ndn-infer audit NAME --remote               an auditor of the network computes
ndn-infer audit --verify FILE|NAME          check the proof in a verdict again: keys and model are enough
ndn-infer audit --faults                    who is left out when producers are chosen, why and until when

NAME is that of a result of 'generate', as 'ask --json' and 'explain' print it. The verdict is a signed record (DSSE,
in-toto), written with -o FILE. Who has a proven fault is not asked by this machine until the verdict ends.
Exit status 4: a fault, or a suspicion.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndn_infer import ndn
from ndn_infer.apps.get import split
from ndn_infer.config import Config
from ndn_infer.errors import StorageError, TrustError, UsageError
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.live.kept import KeptContexts
from ndn_infer.evidence.verdict import KV, PASSED, AuditVerdict, KnownFault
from ndn_infer.functions.registry import ROLES
from ndn_infer.local.prepare import prepared
from ndn_infer.node.faults import FaultFile
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.validator import Validator

MAX_FILE = 4 << 20
WRONG = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="name of an answer")
    parser.add_argument("--last", action="store_true", help="the answer to the last question asked here")
    parser.add_argument("--sample", type=_share, default=1.0, metavar="P", help="check this share (default: all)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the sample (default: random)")
    parser.add_argument("--kv", action="store_true", help="KV blocks instead of tokens")
    parser.add_argument("--remote", action="store_true", help="an auditor of the network computes")
    parser.add_argument("--at", action="append", default=[], metavar="NAME", help="ask this producer for the answer")
    parser.add_argument("--verify", metavar="FILE|NAME", help="check the proof in a verdict")
    parser.add_argument("--faults", action="store_true", help="list who is left out")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the verdict to FILE")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace, config: Config) -> int:
    given = [bool(options.name), options.last, bool(options.verify), options.faults]
    if sum(given) != 1:
        raise UsageError("name an answer, or give --last, --verify or --faults")
    if options.last:
        options.name = KeptContexts.of(config).last().note.stream
    if options.faults:
        return _faults(options, config)
    if options.verify:
        return asyncio.run(_verify(options, config, None if _is_name(options.verify) else _read(Path(options.verify))))
    return asyncio.run(_audit(options, config))


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError("a share is above 0 and at most 1")
    return share


# ---------------------------------------------------------------- an answer


async def _audit(options: argparse.Namespace, config: Config) -> int:
    seed = secrets.randbits(53) if options.seed is None else options.seed
    keychain = ensure_keys(config, ROLES)
    async with await Node.join(config, keychain) as node:
        base, version = split(ndn.from_uri(options.name))
        if options.remote:
            content = await _remote(node, options, seed)
        else:
            content = await _local(node, options, (base, version, seed))
    verdict = AuditVerdict.of(statement.decode(dsse.decode(content, MAX_FILE).payload, MAX_FILE))
    if options.output is not None:
        _write(options.output, content)
    if verdict.proof is not None and verdict.fault is not None and not options.remote:
        where = str(options.output or options.name)
        FaultFile(config).add(KnownFault(verdict.fault.identity, verdict.until_us, where, verdict.fault.words))
    _print(verdict, options)
    return 0 if verdict.result == PASSED else WRONG


async def _local(node: Node, options: argparse.Namespace, what: tuple[bytes, int | None, int]) -> bytes:
    from ndn_infer.functions.audit.auditor import Auditor, envelope_of
    from ndn_infer.functions.audit.local_engine import audit_engine, options_for
    from ndn_infer.functions.audit.published_answer import fetch_answer
    from ndn_infer.functions.audit.sample import AuditSample

    (base, version, seed), config = what, node.config
    answer = await fetch_answer(node.fetcher, node.validator, base, version, [ndn.from_uri(at) for at in options.at])
    folder = prepared(config, answer.model, quiet=options.json)
    engine_options = options_for(answer.request.engine, config.engine)
    async with audit_engine(answer.model, folder.path, engine_options) as engine:
        auditor = Auditor(node.fetcher, node.validator, engine, valid_s=config.audit.valid_days * 86400)
        sample = AuditSample(options.sample, seed)
        verdict = await (auditor.kv(answer, sample) if options.kv else auditor.tokens(answer, sample))
    return envelope_of(verdict, node.signer_as("user"))


async def _remote(node: Node, options: argparse.Namespace, seed: int) -> bytes:
    from ndn_infer.functions.audit.published_answer import subject_of
    from ndn_infer.records.audit import AuditDone, AuditRequest
    from ndn_infer.transport.calls.ask import Ask

    request = AuditRequest(options.name, options.sample, seed, options.kv)
    ask = Ask(subject_of(node.net, ndn.from_uri(options.name)), "audit", request)
    done = await node.caller().call(ask, AuditDone)
    fetched = await node.fetcher.fetch(ndn.from_uri(done.verdict), hints=(ndn.from_uri(done.hint),))
    return bytes(fetched.content)


# ---------------------------------------------------------------- a verdict


def _is_name(text: str) -> bool:
    return text.startswith("/") and not Path(text).is_file() and "/evidence/" in text


async def _verify(options: argparse.Namespace, config: Config, content: bytes | None) -> int:
    """`content` of a file is checked without a network: the anchor of this machine, the proof and the model are all it
    takes."""
    keychain = ensure_keys(config, ROLES)
    if content is None:
        async with await Node.join(config, keychain) as node:
            content = bytes((await node.fetcher.fetch(split(ndn.from_uri(options.verify))[0])).content)
    verdict = AuditVerdict.of(statement.decode(dsse.decode(content, MAX_FILE).payload, MAX_FILE))
    words = await _prove(verdict, config, keychain, quiet=options.json)
    assert verdict.fault is not None
    FaultFile(config).add(KnownFault(verdict.fault.identity, verdict.until_us, options.verify, words))
    if options.json:
        print(json.dumps({"proven": True, "identity": verdict.fault.identity, "words": words}))
    else:
        print(f"proven: {verdict.fault.identity}\n  {words}\n  left out here until {day(verdict.until_us)}")
    return 0


async def _prove(verdict: AuditVerdict, config: Config, keychain: Keychain, *, quiet: bool) -> str:
    from ndn_infer.functions.audit.local_engine import audit_engine, options_for
    from ndn_infer.functions.audit.proof_check import check_proof, model_of

    validator = Validator(trust_schema(config), keychain.anchor, _no_network)
    validator.add_certificates(*keychain.certificates())
    model = model_of(verdict, validator.net)
    folder = prepared(config, model, quiet=quiet)
    try:
        async with audit_engine(model, folder.path, options_for(verdict.of_engine, config.engine)) as engine:
            return await check_proof(verdict, validator, engine)
    finally:
        await validator.aclose()


async def _no_network(*_: Any) -> Any:
    raise TrustError("a certificate is missing, and a verdict in a file is checked without a network")


def _faults(options: argparse.Namespace, config: Config) -> int:
    faults = FaultFile(config).all()
    if options.json:
        print(json.dumps({"faults": [fault_as_json(fault) for fault in faults]}))
    elif not faults:
        print("nobody is left out")
    for fault in faults if not options.json else ():
        print(f"{fault.identity}\n  {fault.words}\n  until {day(fault.until_us)}; {fault.verdict}")
    return 0


def fault_as_json(fault: KnownFault) -> dict[str, Any]:
    return {
        "identity": fault.identity, "until": fault.until_us / 1e6, "verdict": fault.verdict, "words": fault.words,
    }  # fmt: skip


# ---------------------------------------------------------------- files and words


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def day(until_us: int) -> str:
    """A time of the Unix epoch for people."""
    return datetime.fromtimestamp(until_us / 1e6, UTC).isoformat(timespec="minutes")


def _print(verdict: AuditVerdict, options: argparse.Namespace) -> None:
    if options.json:
        said = dict(verdict.plain())
        proof = said.pop("proof", None)
        print(json.dumps({"subject": verdict.subject.plain(), "proof": proof is not None, **said}))
        return
    print("\n".join(words_of(verdict)))
    if options.output is not None:
        print(f"the verdict is in {options.output}", file=sys.stderr)


def words_of(verdict: AuditVerdict) -> Sequence[str]:
    """A verdict for people."""
    units = "KV blocks" if verdict.what == KV else "tokens"
    how = "computed again, bit for bit"
    if verdict.method != "exact":
        how = f"judged by margins: {verdict.engine} is another class"
    elif verdict.what != KV and verdict.share < 1:
        how = "read as a prompt, and computed again bit for bit where that was doubtful"
        if verdict.checked < verdict.units:
            how = "computed again bit for bit, after KV that is published"
    lines = [
        f"{verdict.result}: {verdict.subject.uri}",
        f"  {verdict.checked} of {verdict.units} {units} {how}; share {verdict.share:g}, "
        f"seed {verdict.seed}; {verdict.seconds:.2f} s of the engine",
    ]
    if verdict.fault is not None:
        lines.append(f"  {verdict.fault.words}")
        proof = "; the proof is in the verdict" if verdict.proof else ""
        lines.append(f"  signed by {verdict.fault.identity}{proof}")
    return lines
