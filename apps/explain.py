"""Say what an answer rests on, link by link: who decoded it, what was asked by whom, whose passages and whose KV were
in it, what the operator says of its model, whose keys vouch for it all. Every link is verified again.

ndn-infer explain --last                         the answer to the last question of this machine's user
ndn-infer explain /lab/model/.../v=...           the answer of this stream, as 'ask --json' names it
ndn-infer explain --bundle answer.ndn            out of a file, without any network ('ask --evidence FILE' makes one)
ndn-infer explain --last --export prov -o answer.prov.json

Exit status: 0, every link is verified; 3, nothing is broken, but something could not be had; 4, a link is broken: the
first one is named. With --bundle only the trust anchor and the trust schema come from this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ndn_infer import clock, ndn
from ndn_infer.apps.explain_words import lines_of
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import BadPacket, NetworkError, NoForwarder, StorageError, TrustError, UsageError
from ndn_infer.evidence.answers import StreamName
from ndn_infer.evidence.bundle import MAX_BUNDLE_BYTES, BundleNote, EvidenceBundle, read_bundle
from ndn_infer.evidence.explain import explain
from ndn_infer.evidence.explain_result import explain_result
from ndn_infer.evidence.judge import State, Trust
from ndn_infer.evidence.live.collect import Collector
from ndn_infer.evidence.live.kept import KeptContexts
from ndn_infer.evidence.node import Explanation
from ndn_infer.evidence.prov import prov_json
from ndn_infer.evidence.ro_crate import ro_crate
from ndn_infer.namespace import AnswerRecord, Call, Result, parse_base
from ndn_infer.node.keys import ensure_keys, net_name
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.security.domains import DomainEpoch, find_epoch
from ndn_infer.security.keychain import Keychain

log = logging.getLogger(__name__)

EXPORTS = ("bundle", "prov", "ro-crate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="", help="the answer's stream, its record, or a context record")
    parser.add_argument("--last", action="store_true", help="the answer to the last question asked here")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="read everything from FILE, without a network")
    parser.add_argument("--anchor", type=Path, metavar="FILE", help="believe this trust anchor (a certificate, base64)")
    parser.add_argument("--context", default="", metavar="NAME", help="the context record of whoever asked")
    parser.add_argument("--export", choices=EXPORTS, help="write the evidence in this form to --output")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where --export writes (ro-crate: a folder)")
    parser.add_argument("--json", action="store_true", help="the tree as one JSON document")
    parser.add_argument("--all", action="store_true", help="every block, and whole names")


def run(options: argparse.Namespace, config: Config) -> int:
    if bool(options.name) + options.last > 1 or not (options.name or options.last or options.bundle):
        raise UsageError("which answer?", hint="its name, or --last, or --bundle FILE")
    if options.export and options.output is None:
        raise UsageError("--export needs --output FILE")
    return asyncio.run(_main(_WantedAnswer(options, config)))


async def _main(wanted: _WantedAnswer) -> int:
    options, result = wanted.options, wanted.result()
    if result is None:
        bundle, stream, notes = await wanted.bundle()
        explanation = await explain(bundle, stream, wanted.trust(), context=options.context)
    else:
        bundle, notes = await wanted.bundle_of(result)
        explanation = await explain_result(bundle, result, wanted.trust())
    explanation = replace(explanation, notes=(*explanation.notes, *notes))
    if options.export:
        _export(options, bundle, explanation)
    if options.json:
        print(json.dumps(explanation.plain(), ensure_ascii=False))
    else:
        print("\n".join(lines_of(explanation, every=options.all)))
    return exit_status(explanation)


def exit_status(explanation: Explanation) -> int:
    if explanation.state is State.VERIFIED:
        return 0
    return TrustError.exit_code if explanation.state is State.BROKEN else NetworkError.exit_code


@dataclass(frozen=True, slots=True)
class _WantedAnswer:
    """One answer that is to be explained, and where from."""

    options: argparse.Namespace
    config: Config

    async def bundle(self) -> tuple[EvidenceBundle, str, list[str]]:
        """The evidence, the stream's URI, and what was refused on the way, in words."""
        if self.options.bundle is not None:
            bundle = read_file(self.options.bundle)
            return bundle, self._stream() if self.options.name else bundle.note.stream, []
        kept = KeptContexts.of(self.config)
        if self.options.last:
            last = kept.last()
            return await self._collected(last, last.note.stream)
        stream = self._stream()
        return await self._collected(kept.of_stream(stream), stream)

    def result(self) -> Result | None:
        """The result that is named, where it is no answer of a model."""
        base, _ = ndn.split_version(ndn.from_uri(self.options.name)) if self.options.name else (b"", None)
        found = parse_base(net_name(self.config), base)
        found = found.result() if isinstance(found, AnswerRecord | Call) else found
        return found if isinstance(found, Result) and found.function != "generate" else None

    async def bundle_of(self, result: Result) -> tuple[EvidenceBundle, list[str]]:
        """The evidence of that result, and what was refused on the way, in words."""
        if self.options.bundle is not None:
            return read_file(self.options.bundle), []
        keychain = ensure_keys(self.config)
        async with await Node.join(self.config, keychain, offer_own=True) as node, Client(node) as client:
            note = BundleNote(ndn.to_uri(result.to_name(node.net)))
            collector = Collector.of(node, client.conversation().caller, note)
            return await collector.collect_result(result), [f"refused: {words}" for words in collector.refused]

    def _stream(self) -> str:
        """The stream's URI, out of that of the stream or of its record."""
        name = ndn.from_uri(self.options.name)
        base, version = ndn.split_version(name)
        beside = ndn.components(base)[-1:] == [ndn.generic("record")]
        base = ndn.prefix(base, -1) if beside else base
        if version is None:
            raise UsageError(
                f"{self.options.name} has no version: which run of the answer is meant?",
                hint="'ndn-infer ask --json' tells the stream with its version (v=...)",
            )
        uri = ndn.to_uri(base + ndn.version(version))
        StreamName.of(net_name(self.config), uri)
        return uri

    async def _collected(self, known: EvidenceBundle | None, stream: str) -> tuple[EvidenceBundle, str, list[str]]:
        """Out of the network; where none runs, out of what is kept here."""
        try:
            return await self._asked_for(known, stream)
        except NoForwarder as error:
            if known is None:
                raise
            log.info("%s", error)
            words = "no network is running: this is out of what was kept here when the answer came"
            if not any(known.below(ndn.from_uri(stream))):
                words += ", which is what was asked; 'ndn-infer ask --evidence FILE' keeps all an answer rests on"
            return known, stream, [words]

    async def _asked_for(self, known: EvidenceBundle | None, stream: str) -> tuple[EvidenceBundle, str, list[str]]:
        note = replace(known.note, stream=stream) if known is not None else BundleNote(stream)
        note = replace(note, context=self.options.context or note.context)
        keychain = ensure_keys(self.config)
        async with await Node.join(self.config, keychain, offer_own=True) as node, Client(node) as client:
            caller = client.conversation().caller
            packets = known.packets.values() if known is not None else ()
            collector = Collector.of(node, caller, note, packets)
            return await collector.collect(), stream, [f"refused: {words}" for words in collector.refused]

    def trust(self) -> Trust:
        return Trust(trust_schema(self.config), self._anchor(), clock.wall_s(), self._domain)

    def _anchor(self) -> Certificate:
        """Of this machine's configuration, or of the file that the user names. Raises MissingKey, StorageError."""
        path = self.options.anchor
        if path is None:
            return Keychain.open(self.config.keys_dir).anchor
        try:
            return certs.from_text(path.read_text("ascii"))
        except (OSError, UnicodeDecodeError, BadPacket) as error:
            raise StorageError(f"{path} holds no certificate: {error}") from error

    def _domain(self, label: str) -> DomainEpoch:
        return find_epoch(DomainStore(self.config.keys_dir).tenants(), label)


def read_file(path: Path) -> EvidenceBundle:
    """Raises StorageError for a file that cannot be read, or is no bundle."""
    try:
        with path.open("rb") as file:
            return read_bundle(file.read(MAX_BUNDLE_BYTES + 1))
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except BadPacket as error:
        raise StorageError(f"{path}: {error}", hint="'ndn-infer ask --evidence FILE' makes a bundle") from error


def write_file(path: Path, content: bytes) -> None:
    """Raises StorageError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _export(options: argparse.Namespace, bundle: EvidenceBundle, explanation: Explanation) -> None:
    output: Path = options.output
    if options.export == "bundle":
        write_file(output, bundle.encode())
    elif options.export == "prov":
        write_file(output, json.dumps(prov_json(explanation), ensure_ascii=False, indent=1).encode() + b"\n")
    else:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the folder {output}: {error.strerror}") from error
        for name, content in ro_crate(explanation, bundle).items():
            write_file(output / name, content)
    print(f"wrote {output}", file=sys.stderr)
