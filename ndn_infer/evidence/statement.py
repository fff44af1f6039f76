"""Statements: a claim about named things that names what it rests on (in-toto Statement v1).

Owns: the statement, the descriptor of a resource, the types of claims that exist here. Must not know: what a claim of
one type holds (answer.py and its like), signatures, the network. Source: in-toto attestation framework 1.0; the list of
inputs has the name that SLSA Provenance v1 gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import MAX_JSON, Json, canonical, parse_canonical

STATEMENT: Final = "https://in-toto.io/Statement/v1"

ANSWER: Final = "urn:ndn-infer:answer:1"
RESULT: Final = "urn:ndn-infer:result:1"
CONTEXT: Final = "urn:ndn-infer:context:1"
VERDICT: Final = "urn:ndn-infer:verdict:1"
SUITE: Final = "urn:ndn-infer:suite:1"
SCORE: Final = "urn:ndn-infer:score:1"
CLAIMS: Final = (ANSWER, RESULT, CONTEXT, VERDICT, SUITE, SCORE)
"""Predicate types."""

INPUTS: Final = "resolvedDependencies"
"""Field of a predicate that lists what the claim rests on."""

MAX_RESOURCES: Final = 1 << 14
_MAX_URI = 4096
_MAX_LABEL = 512
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Resource:
    """A named thing (in-toto's ResourceDescriptor). `uri`: its name, with version where it has one. `sha256` in hex, or
    "" where no digest is known. `name`: what it is to the claim: request, model, kv-block, ..."""

    uri: str
    sha256: str = ""
    name: str = ""
    annotations: Mapping[str, Json] = field(default_factory=dict)

    def plain(self) -> dict[str, Json]:
        found: dict[str, Json] = {"uri": self.uri}
        if self.sha256:
            found["digest"] = {"sha256": self.sha256}
        if self.name:
            found["name"] = self.name
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found

    @classmethod
    def of(cls, value: Any) -> Resource:
        """From what `plain` gives. Raises BadRecord."""
        if type(value) is not dict or not {"uri"} <= set(value) <= {"uri", "digest", "name", "annotations"}:
            raise BadRecord("a resource has a uri, and may have digest, name and annotations")
        uri, name = value["uri"], value.get("name", "")
        digest, annotations = value.get("digest", {"sha256": ""}), value.get("annotations", {})
        if type(uri) is not str or not 1 <= len(uri) <= _MAX_URI:
            raise BadRecord(f"uri of a resource has 1 to {_MAX_URI} characters")
        if type(name) is not str or len(name) > _MAX_LABEL:
            raise BadRecord(f"name of a resource has at most {_MAX_LABEL} characters")
        if type(annotations) is not dict or type(digest) is not dict or set(digest) != {"sha256"}:
            raise BadRecord("annotations of a resource are an object, its digest holds a sha256")
        sha256 = digest["sha256"]
        if type(sha256) is not str or not (_DIGEST.fullmatch(sha256) or "digest" not in value):
            raise BadRecord("a sha256 is 64 lower-case hex digits")
        return cls(uri, sha256, name, annotations)


@dataclass(frozen=True, slots=True)
class Statement:
    """`subject`: what it is about. `predicate`: what it says, by `predicate_type` (one of CLAIMS)."""

    subject: tuple[Resource, ...]
    predicate_type: str
    predicate: Mapping[str, Json]

    @property
    def inputs(self) -> tuple[Resource, ...]:
        """What it rests on. Raises BadRecord."""
        return resources_of(self.predicate.get(INPUTS, []))


def encode(statement: Statement) -> bytes:
    """Its canonical JSON: equal statements have equal bytes. Raises BadRecord."""
    return canonical(
        {
            "_type": STATEMENT,
            "subject": [resource.plain() for resource in statement.subject],
            "predicateType": statement.predicate_type,
            "predicate": statement.predicate,
        }
    )


def decode(wire: bytes | memoryview, most: int = MAX_JSON) -> Statement:
    """The statement in `wire`. Raises BadRecord for anything else than the canonical JSON of a statement whose type is
    one of CLAIMS; what its predicate holds is for the reader of that type."""
    value = parse_canonical(wire, most)
    if type(value) is not dict or set(value) != {"_type", "subject", "predicateType", "predicate"}:
        raise BadRecord("a statement has _type, subject, predicateType and predicate")
    if value["_type"] != STATEMENT or value["predicateType"] not in CLAIMS:
        raise BadRecord("this is a statement of a type that is not known here")
    if type(value["predicate"]) is not dict:
        raise BadRecord("a predicate is an object")
    subject = resources_of(value["subject"])
    if not subject:
        raise BadRecord("a statement is about something")
    return Statement(subject, value["predicateType"], value["predicate"])


def plain(resources: Iterable[Resource]) -> list[Json]:
    """A list of resources as JSON, for `INPUTS`."""
    return [resource.plain() for resource in resources]


def resources_of(value: Any) -> tuple[Resource, ...]:
    """From what `plain` gives. Raises BadRecord."""
    if type(value) is not list or len(value) > MAX_RESOURCES:
        raise BadRecord(f"resources are a list of at most {MAX_RESOURCES}")
    return tuple(Resource.of(item) for item in value)
