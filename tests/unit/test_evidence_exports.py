"""Exports of what an answer rests on: W3C PROV, read by the library of others; RO-Crate, judged by its validator."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from prov.model import ProvActivity, ProvAgent, ProvDocument, ProvEntity, ProvGeneration, ProvUsage

from ndn_infer.evidence.bundle import read_bundle
from ndn_infer.evidence.explain import explain
from ndn_infer.evidence.node import Explanation
from ndn_infer.evidence.prov import prov_json
from ndn_infer.evidence.ro_crate import BUNDLE, METADATA, ro_crate
from tests.evidence_kit import MadeAnswer


@pytest.fixture(scope="module")
def made() -> MadeAnswer:
    return MadeAnswer()


@pytest.fixture(scope="module")
def explanation(made: MadeAnswer) -> Explanation:
    return asyncio.run(explain(made.bundle, made.stream, made.trust()))


def test_prov_is_read_by_others_and_goes_round(explanation: Explanation) -> None:
    text = json.dumps(prov_json(explanation))
    document = ProvDocument.deserialize(content=text, format="json")
    assert ProvDocument.deserialize(content=document.serialize(format="json"), format="json") == document
    nodes = [node for node in explanation.answer.walk() if node.kind != "deny list"]
    assert len(list(document.get_records(ProvEntity))) == len(nodes)
    assert len(list(document.get_records(ProvActivity))) == 2
    identities = {node.signer for node in nodes if node.signer} | {
        node.name.split("/KEY/")[0] for node in nodes if node.kind == "key"
    }
    assert len(list(document.get_records(ProvAgent))) == len(identities)
    assert len(list(document.get_records(ProvGeneration))) == 2
    assert len(list(document.get_records(ProvUsage))) >= 4


def test_a_crate_lists_each_file_and_the_bundle_in_it_is_whole(explanation: Explanation, made: MadeAnswer) -> None:
    files = ro_crate(explanation, made.bundle)
    graph = {node["@id"]: node for node in json.loads(files[METADATA])["@graph"]}
    for name, content in files.items():
        if name != METADATA:
            assert graph[name]["sha256"] == hashlib.sha256(content).hexdigest()
    assert {part["@id"] for part in graph["./"]["hasPart"]} == files.keys() - {METADATA}
    again = asyncio.run(explain(read_bundle(files[BUNDLE]), made.stream, made.trust()))
    assert again.plain() == explanation.plain()


SEED: str = textwrap.dedent(
    """
    import io, sys
    from pathlib import Path
    import requests, rocrate
    from requests.adapters import BaseAdapter
    from requests_cache import CachedSession
    from urllib3 import HTTPResponse

    body = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()

    class Shipped(BaseAdapter):
        def send(self, request, **options):
            found = requests.Response()
            found.status_code, found.url, found.request = 200, request.url, request
            found.headers["Content-Type"] = kind = "application/ld+json"
            found.raw = HTTPResponse(io.BytesIO(body), {"Content-Type": kind}, 200, preload_content=False)
            found.raw._request_url = request.url
            return found

        def close(self):
            pass

    session = CachedSession(sys.argv[1], backend="sqlite", expire_after=-1, allowable_methods=("GET",))
    session.mount("https://", Shipped())
    for headers in ({}, {"Accept": "application/ld+json, application/json"}):
        assert session.get("https://w3id.org/ro/crate/1.3/context", headers=headers).json()["@context"]
    """
)
"""Puts the JSON-LD context of RO-Crate 1.3, as the package `rocrate` has it, where the validator looks without a
network."""


@pytest.mark.slow
def test_the_ro_crate_validator_accepts_a_crate_offline(
    explanation: Explanation, made: MadeAnswer, tmp_path: Path
) -> None:
    """roc-validator and rocrate are not among our dependencies: `pip install roc-validator rocrate` somewhere, and have
    its `rocrate-validator` in PATH."""
    judge = shutil.which("rocrate-validator")
    if judge is None:
        pytest.skip("rocrate-validator is not in PATH")
    crate, cache, report = tmp_path / "crate", tmp_path / "cache", tmp_path / "report.json"
    crate.mkdir()
    for name, content in ro_crate(explanation, made.bundle).items():
        (crate / name).write_bytes(content)
    subprocess.run([str(Path(judge).resolve().parent / "python"), "-c", SEED, str(cache)], check=True, timeout=120)
    command = [judge, "-y", "validate", "--offline", "--cache-path", str(cache), "--no-paging", "-l", "required"]
    command += ["-p", "ro-crate-1.3", "-f", "json", "-o", str(report), str(crate)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = json.loads(report.read_text())
    assert done.returncode == 0 and found["passed"], found["issues"]
