"""The evidence of an answer as an RO-Crate 1.3: a folder with its metadata, for archives of research data.

Owns: what is in the folder, and what is said of it in schema.org's terms. Must not know: where the folder lies. Source:
RO-Crate 1.3; the action that made the answer is described as Process Run Crate does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from ndn_infer.evidence.bundle import EvidenceBundle
from ndn_infer.evidence.node import EvidenceNode, Explanation
from ndn_infer.evidence.plain_json import Json
from ndn_infer.evidence.prov import prov_json

METADATA: Final = "ro-crate-metadata.json"
ANSWER: Final = "answer.txt"
BUNDLE: Final = "evidence.ndn"
TREE: Final = "explanation.json"
PROV: Final = "prov.json"

_CONTEXT: Final = "https://w3id.org/ro/crate/1.3/context"
_SPECIFICATION: Final = "https://w3id.org/ro/crate/1.3"


def ro_crate(explanation: Explanation, bundle: EvidenceBundle) -> dict[str, bytes]:
    """Files of the crate by name, its metadata among them."""
    text = explanation.answer.facts.get("text", "")
    files = {
        ANSWER: str(text).encode("utf-8", "replace"),
        BUNDLE: bundle.encode(),
        TREE: _json(explanation.plain()),
        PROV: _json(prov_json(explanation)),
    }
    return {**files, METADATA: _json({"@context": _CONTEXT, "@graph": _graph(explanation, files)})}


def _graph(explanation: Explanation, files: Mapping[str, bytes]) -> list[Json]:
    answer = explanation.answer
    nodes = list(answer.walk())
    passages = [node for node in nodes if node.kind == "passage"]
    model = next((node for node in nodes if node.kind == "model"), None)
    signers = sorted({node.signer for node in nodes if node.signer})
    return [
        {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": _SPECIFICATION}},
        _root(explanation, files),
        *(_file(name, content) for name, content in files.items()),
        _action(answer, passages, model),
        _model(model),
        *({"@id": _uri(node.name), "@type": "CreativeWork", **_about(node)} for node in passages),
        *(_signer(identity) for identity in signers),
        _rights(),
    ]  # fmt: skip


def _root(explanation: Explanation, files: Mapping[str, bytes]) -> Json:
    answer, fault = explanation.answer, explanation.fault
    judged = datetime.fromtimestamp(explanation.judged_at, UTC)
    found = "every link is verified" if fault is None else f"not verified: {fault.kind} ({fault.why})"
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": "An answer of a language model and what it rests on",
        "description": f"The answer {answer.name}, with the signed packets that it rests on; {found}.",
        "datePublished": judged.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        "license": {"@id": "#rights"},
        "identifier": answer.name,
        "hasPart": [{"@id": name} for name in files],
        "mainEntity": {"@id": ANSWER},
        "mentions": {"@id": "#decode"},
    }


_FILES: Final = {
    ANSWER: ("Text of the answer", "text/plain"),
    BUNDLE: ("Signed NDN packets: answer, request, prompt, context, passages, keys", "application/octet-stream"),
    TREE: ("What each link is, and what was found of it", "application/json"),
    PROV: ("The same as W3C PROV (PROV-JSON)", "application/json"),
}


def _file(name: str, content: bytes) -> Json:
    what, form = _FILES[name]
    return {
        "@id": name, "@type": "File", "name": what, "encodingFormat": form, "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


def _action(answer: EvidenceNode, passages: list[EvidenceNode], model: EvidenceNode | None) -> Json:
    made = str(answer.facts.get("made", "")).removesuffix(" UTC").replace(" ", "T")
    used: list[Json] = [{"@id": BUNDLE}, *({"@id": _uri(node.name)} for node in passages)]
    said: dict[str, Json] = {
        "@id": "#decode",
        "@type": "CreateAction",
        "name": "The answer was decoded",
        "description": answer.words,
        "instrument": {"@id": "#model"},
        "object": used if len(used) > 1 else used[0],
        "result": {"@id": ANSWER},
        "endTime": f"{made}+00:00",
    }
    if answer.signer:
        said["agent"] = {"@id": _uri(answer.signer)}
    return said


def _model(model: EvidenceNode | None) -> Json:
    facts = {} if model is None else model.facts
    said: dict[str, Json] = {
        "@id": "#model", "@type": "SoftwareApplication", "name": str(facts.get("alias") or "the model"),
        "description": model.words if model is not None and model.words else "the model that decoded the answer",
    }  # fmt: skip
    if model is not None:
        said |= {"url": _uri(model.name), "version": str(facts.get("digest") or "unknown")}
    return said


def _about(node: EvidenceNode) -> dict[str, Json]:
    title, source = node.facts.get("title", ""), node.facts.get("source", "")
    return {"name": str(title or "a passage"), "description": node.words or node.why, "identifier": str(source)}


def _signer(identity: str) -> Json:
    return {
        "@id": _uri(identity),
        "@type": "Organization",
        "name": identity,
        "description": "an identity of the network",
    }


def _rights() -> Json:
    return {
        "@id": "#rights", "@type": "CreativeWork", "name": "No licence is stated",
        "description": "Rights in the answer and in the passages are those of their makers.",
    }  # fmt: skip


def _uri(name: str) -> str:
    """A name as an absolute URI."""
    return f"ndn:{name}"


def _json(value: Json) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")
