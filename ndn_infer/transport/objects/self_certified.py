"""Names that say what their content is: compared with it, wherever something is fetched.

Owns: which kinds of names those are, and how each is checked. A signature says who published; where the name itself
holds a digest of the content, no signature may stand for other content. Must not know: how anything is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from ndn_infer import chain, ndn, records
from ndn_infer.errors import BadRecord, DigestMismatch
from ndn_infer.namespace import DomainKey, Evidence, Input, Kind, Passage, RequestObject, TokenBlock, parse_base
from ndn_infer.ndn.name import Name
from ndn_infer.records import TokenBlockRecord
from ndn_infer.security import domain_keys
from ndn_infer.security.domains import PUBLIC

MAX_BLOCK_TOKENS: Final = 4096


def check(net: Name, base: Name, content: bytes | memoryview, signed_by: Name) -> Kind | None:
    """Compare the content of the object `base` with its name; its kind, None for a name of no kind.

    Raises DigestMismatch when it is not what the name says (KeyNotAllowed, BadRecord for a domain's key record).
    Token blocks of tenants are sealed: whoever opens them checks their chain.
    """
    kind = parse_base(net, base)
    checker = _CHECKS.get(type(kind))
    if kind is not None and checker is not None:
        checker(kind, net, base, content, signed_by)
    return kind


def applies(net: Name, base: Name) -> bool:
    """Whether objects of this name can only be judged as a whole."""
    return type(parse_base(net, base)) in _CHECKS


def _digest(kind: Any, net: Name, base: Name, content: bytes | memoryview, signed_by: Name) -> None:
    promised = getattr(kind, _HOLDS[type(kind)])
    if isinstance(kind, Evidence) and kind.domain != PUBLIC.label:
        return  # sealed: whoever opens it compares
    if hashlib.sha256(content).hexdigest() != promised:
        raise _mismatch(base, signed_by)


def _chain(kind: Any, net: Name, base: Name, content: bytes | memoryview, signed_by: Name) -> None:
    if kind.domain != PUBLIC.label:
        return
    try:
        block = records.decode(TokenBlockRecord, content)
        if len(block.ids) > MAX_BLOCK_TOKENS or not all(0 <= token < 1 << 32 for token in block.ids):
            raise BadRecord("no token ids")
        value = chain.extend(bytes.fromhex(block.parent), block.ids)
    except (BadRecord, ValueError) as error:
        raise _mismatch(base, signed_by) from error
    if value.hex() != kind.chain:
        raise _mismatch(base, signed_by)


def _owner(kind: Any, net: Name, base: Name, content: bytes | memoryview, signed_by: Name) -> None:
    domain_keys.check(net, base, bytes(content), signed_by)


def _mismatch(base: Name, signed_by: Name) -> DigestMismatch:
    return DigestMismatch(
        f"{ndn.to_uri(base)} is not what its name says; {ndn.to_uri(signed_by)} signed it",
        hint="the digest in the name is another one; nothing of it was used",
    )


_HOLDS: Final = {Passage: "passage", Input: "content", RequestObject: "request", Evidence: "content"}
"""Which component is the SHA-256 of the content."""

_CHECKS: Final[dict[type, Callable[[Any, Name, Name, bytes | memoryview, Name], None]]] = {
    **dict.fromkeys(_HOLDS, _digest),
    TokenBlock: _chain,
    DomainKey: _owner,
}
