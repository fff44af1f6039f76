"""Corpora in a tenant domain: names that tell outsiders nothing, and passages that only members read.

Owns: how both follow from the domain's key. Must not know: what a passage holds, who serves it. Sealing is
deterministic and takes the key (domains.py), so a digest of sealed bytes is a name that members compute and nobody else
can guess or confirm. In the public domain names and contents are what they were.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ndn_infer import ndn
from ndn_infer.namespace import Passage, passages_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.security.domains import PUBLIC, Domain

_CORPUS: Final = ndn.from_uri("/corpus")


def corpus_in(domain: Domain, key: str) -> str:
    """The <corpus> component that an alias or a digest has in a domain; in the public one a digest is its own."""
    return key if domain.label == PUBLIC.label else hashlib.sha256(domain.seal(_CORPUS, key.encode())).hexdigest()


def close_passage(domain: Domain, net: Name, corpus: str, record: bytes) -> tuple[Name, bytes]:
    """The name and the content of a passage's object. The name holds the digest of the content, sealed or not."""
    content = domain.seal(passages_prefix(net, corpus), record)
    return Passage(corpus, hashlib.sha256(content).hexdigest()).to_name(net), content


def open_passage(domain: Domain, net: Name, corpus: str, content: bytes) -> bytes:
    """The record in the content of a passage of this corpus. Raises SealBroken."""
    return domain.open(passages_prefix(net, corpus), content)
