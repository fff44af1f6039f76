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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndn_infer import ndn
from ndn_infer.apps.get import split
from ndn_infer.config import Config
from ndn_infer.errors import BadRecord, NoForwarder, StorageError, TrustError, UsageError
from ndn_infer.evidence import dsse, statement
from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.evidence.live.kept import KeptContexts
from ndn_infer.evidence.verdict import KV, PASSED, AuditVerdict, KnownFault
from ndn_infer.functions.registry import ROLES
from ndn_infer.local.prepare import prepared
from ndn_infer.node.faults import FaultFile
from ndn_infer.node.keys import USER, ensure_keys, role_identity
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.validator import Validator
from ndn_infer.transport.objects.fetch import Fetcher

if TYPE_CHECKING:
    from ndn_infer.functions.audit.published_answer import FetchedAnswer

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
    sample = (options.sample, secrets.randbits(53) if options.seed is None else options.seed)
    content = await _verdict(options, config, sample)
    verdict = AuditVerdict.of(statement.decode(dsse.decode(content, MAX_FILE).payload, MAX_FILE))
    if options.output is not None:
        _write(options.output, content)
    if verdict.proof is not None and verdict.fault is not None and not options.remote:
        where = str(options.output or options.name)
        FaultFile(config).add(KnownFault(verdict.fault.identity, verdict.until_us, where, verdict.fault.words))
    _print(verdict, options)
    return 0 if verdict.result == PASSED else WRONG


async def _verdict(options: argparse.Namespace, config: Config, sample: tuple[float, int]) -> bytes:
    """In the network; where none runs, on what is kept of an answer that was asked for here."""
    keychain = ensure_keys(config, ROLES)
    try:
        async with await Node.join(config, keychain) as node:
            if options.remote:
                return await _remote(node, options, sample[1])
            return await _local(node, options, sample)
    except NoForwarder:
        kept = KeptContexts.of(config).of_stream(options.name)
        if options.remote or options.kv or kept is None or not any(kept.below(ndn.from_uri(kept.note.stream))):
            raise
        return await _kept(kept, options, sample, (config, keychain))


async def _local(node: Node, options: argparse.Namespace, sample: tuple[float, int]) -> bytes:
    from ndn_infer.functions.audit.published_answer import fetch_answer

    (base, version), hints = split(ndn.from_uri(options.name)), [ndn.from_uri(at) for at in options.at]
    answer = await fetch_answer(node.fetcher, node.validator, base, version, hints)
    return await _computed(answer, options, sample, _Place(node.config, node.validator, node.keychain, node.fetcher))


async def _kept(
    bundle: EvidenceBundle, options: argparse.Namespace, sample: tuple[float, int], here: tuple[Config, Keychain]
) -> bytes:
    from ndn_infer.functions.audit.published_answer import answer_in

    config, keychain = here
    if not options.json:
        print("  no network is running: the answer is the one that was kept here", file=sys.stderr)
    validator = _offline(config, keychain)
    try:
        answer = await answer_in(bundle, validator)
        return await _computed(answer, options, sample, _Place(config, validator, keychain))
    finally:
        await validator.aclose()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an audit is made; no `fetcher` where no network is."""

    config: Config
    validator: Validator
    keychain: Keychain
    fetcher: Fetcher | None = None


async def _computed(
    answer: FetchedAnswer, options: argparse.Namespace, sample: tuple[float, int], place: _Place
) -> bytes:  # fmt: skip
    from ndn_infer.functions.audit.auditor import Auditor, envelope_of
    from ndn_infer.functions.audit.local_engine import audit_engine, options_for
    from ndn_infer.functions.audit.sample import AuditSample

    config = place.config
    folder = prepared(config, answer.model, quiet=options.json)
    async with audit_engine(answer.model, folder.path, options_for(answer.request.engine, config.engine)) as engine:
        auditor = Auditor(place.fetcher, place.validator, engine, valid_s=config.audit.valid_days * 86400)
        drawn = AuditSample(*sample)
        verdict = await (auditor.kv(answer, drawn) if options.kv else auditor.tokens(answer, drawn))
    return envelope_of(verdict, place.keychain.signer_for(role_identity(config, USER)))


async def _remote(node: Node, options: argparse.Namespace, seed: int) -> bytes:
    from ndn_infer.functions.audit.published_answer import subject_of
    from ndn_infer.records.audit import AuditDone, AuditRequest
    from ndn_infer.transport.calls.ask import Ask

    request = AuditRequest(options.name, options.sample, seed, options.kv)
    ask = Ask(subject_of(node.net, ndn.from_uri(options.name)), "audit", request)
    done = await node.caller().call(ask, AuditDone)
    fetched = await node.fetcher.fetch(ndn.from_uri(done.verdict), most=MAX_FILE, hints=(ndn.from_uri(done.hint),))
    content = bytes(fetched.content)
    check_subject(
        AuditVerdict.of(statement.decode(dsse.decode(content, MAX_FILE).payload, MAX_FILE)), options.name, node
    )
    return content


def check_subject(verdict: AuditVerdict, name: str, node: Node) -> None:
    """That somebody else's verdict is of the answer of this name: one that passed; a fault names what is wrong. Raises
    BadRecord."""
    from ndn_infer.functions.audit.published_answer import base_of, result_of

    if verdict.result != PASSED:
        return
    (asked, asked_version), (told, version) = (base_of(ndn.from_uri(uri)) for uri in (name, verdict.subject.uri))
    wanted = result_of(node.net, asked)
    try:
        same = result_of(node.net, told) == wanted and asked_version in (None, version)
    except UsageError:
        same = False
    if not same:
        raise BadRecord(f"the auditor's verdict is of another answer: {verdict.subject.uri[:300]}")


# ---------------------------------------------------------------- a verdict


def _is_name(text: str) -> bool:
    return text.startswith("/") and not Path(text).is_file() and "/evidence/" in text


async def _verify(options: argparse.Namespace, config: Config, content: bytes | None) -> int:
    """`content` of a file is checked without a network: the anchor of this machine, the proof and the model are all it
    takes."""
    keychain = ensure_keys(config, ROLES)
    if content is None:
        async with await Node.join(config, keychain) as node:
            name = split(ndn.from_uri(options.verify))[0]
            content = bytes((await node.fetcher.fetch(name, most=MAX_FILE)).content)
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

    validator = _offline(config, keychain)
    model = model_of(verdict, validator.net)
    folder = prepared(config, model, quiet=quiet)
    try:
        async with audit_engine(model, folder.path, options_for(verdict.of_engine, config.engine)) as engine:
            return await check_proof(verdict, validator, engine)
    finally:
        await validator.aclose()


def _offline(config: Config, keychain: Keychain) -> Validator:
    """Believes the anchor of this machine, and knows its own certificates."""
    validator = Validator(trust_schema(config), keychain.anchor, _no_network)
    validator.add_certificates(*keychain.certificates())
    return validator


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
            return file.read(MAX_FILE + 1)
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
