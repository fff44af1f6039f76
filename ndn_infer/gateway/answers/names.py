"""A name by its parts, each with what it is: so that who reads some names learns the grammar.

Owns: which part of a name is what. Pure. Must not know: which kinds there are (namespace/).
"""

from __future__ import annotations

from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.namespace import classify
from ndn_infer.ndn.name import METADATA, PROGRESS, Name


def base_of(net: Name, kind: str, name: Name) -> tuple[Name, int | None]:
    """The name without version, segment and the like, and the segment, None where there is none: a metadata packet is
    no segment of its object."""
    parts = ndn.components(name)
    segment = None
    if parts and ndn.component_type(parts[-1]) == ndn.SEGMENT and METADATA not in parts:
        segment = ndn.component_number(parts[-1], ndn.SEGMENT)
    found = classify(net, name).kind
    if found is not None and found.title == kind:
        return found.to_name(net), segment
    return name, segment


def name_document(net: Name, uri: str) -> list[dict[str, str]]:
    """One entry a component: `text`, its `role`, and what it `means` in words. Empty for no name."""
    try:
        name = ndn.from_uri(uri) if uri else b""
    except NdnInferError:
        return []
    parts = ndn.components(name)
    above = len(ndn.components(net)) if name.startswith(net) else 0
    found = classify(net, name).kind if above else None
    pattern = found.pattern.split("/")[1:] if found is not None else []
    document = []
    for place, part in enumerate(parts):
        role, means = _of_part(place - above, part, pattern)
        document.append({"text": ndn.component_to_uri(part), "role": role, "means": means})
    if found is not None and document:
        document[-1] = {**document[-1], "kind": found.title, "explained": found.meaning}
    return document


def _of_part(place: int, part: ndn.Component, pattern: list[str]) -> tuple[str, str]:
    if place < 0:
        return "network", "name of the network: the identity of its trust anchor"
    if place < len(pattern):
        word = pattern[place]
        if not word.startswith("<"):
            return "word", f"the word {word}, which says of which kind this name is"
        field = word[1:-1]
        return "field", _FIELDS.get(field, field)
    return _TAIL.get(ndn.component_type(part), _SPECIAL.get(part, ("other", "another component")))


_FIELDS: Final = {
    "subject-kind": "what the call concerns: a model, a corpus or a service",
    "subject": "digest of the model or corpus: weights, tokenizer and configuration",
    "model": "digest of the model: weights, tokenizer and configuration",
    "function": "the function that is called",
    "call-class": "shared: equal requests have equal names, so that caches answer; private: sealed for one tenant",
    "request": "SHA-256 of the canonical request",
    "record": "what the record is about", "id": "the alias that the operator signed", "layers": "the range of layers",
    "chain": "hash of the prompt up to here", "codec": "how numbers are written: the same codec, the same bytes",
    "domain": "whose it is: public, or the label of a tenant domain", "site": "the site", "node": "the machine",
    "role": "the role: what its key may sign follows from it", "corpus": "digest of the corpus",
    "passage": "SHA-256 of the passage", "instance": "one running process", "topic": "what is asked",
}  # fmt: skip
_TAIL: Final = {
    ndn.VERSION: ("version", "version: when it was made, in microseconds; of a stream the run"),
    ndn.SEGMENT: ("segment", "segment: which part of the object, or which event of the stream"),
    1: ("digest", "implicit digest: SHA-256 of the packet"),
    2: ("digest", "SHA-256 of the parameters that the Interest carries"),
}
_SPECIAL: Final = {
    METADATA: ("keyword", "asks for the newest version and its manifest (RDR)"),
    PROGRESS: ("keyword", "asks the producer how far it is"),
    ndn.generic("KEY"): ("keyword", "keys of the identity before it"),
}
