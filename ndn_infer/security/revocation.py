"""The deny list: keys that are believed no more, although their certificates have not ended.

Owns: its record, and what it denies. Must not know: how it is signed, fetched or
kept (transport/trust/revocation_feed.py).
Pure: `now` is passed in.

What was denied once stays denied: lists are joined, never replaced, so that nobody who gets hold of the operator's key
can take a denial back. An identity that gets a new key is believed again: a denial by identity concerns certificates
made before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer import ndn
from ndn_infer.errors import BadName
from ndn_infer.ndn.name import Name
from ndn_infer.records import Reply
from ndn_infer.records.bounds import AtMost, Between, Uri
from ndn_infer.security.certificate import Certificate, version_of

MAX_DENIED: Final = 2048
LIST_KIND: Final = "keys"
LIST_ID: Final = "revoked"
"""The list is the catalogue record of this kind and id."""

_MICROSECONDS: Final = Between(0, (1 << 63) - 1)


@dataclass(frozen=True, slots=True)
class Denied(Reply):
    """`target` (URI): a key or certificate; or an identity with all below it, of which certificates made `before` this
    time (microseconds of the Unix epoch) are meant."""

    target: Uri
    before: Annotated[int, _MICROSECONDS] = 0
    reason: Annotated[str, AtMost(128)] = ""


@dataclass(frozen=True, slots=True)
class RevocationList(Reply):
    """Valid `until` a time (Unix epoch seconds): afterwards another one should have come."""

    until: Annotated[int, _MICROSECONDS]
    denied: Annotated[tuple[Denied, ...], AtMost(MAX_DENIED)] = ()


class DenyList:
    """All that was denied in lists seen so far."""

    def __init__(self) -> None:
        self._denied: dict[Name, Denied] = {}
        self._until = 0.0

    def join(self, new: RevocationList) -> bool:
        """Whether this denies more than before."""
        self._until = max(self._until, new.until)
        more = False
        for item in new.denied:
            try:
                target = ndn.from_uri(item.target)
            except BadName:
                continue
            known = self._denied.get(target)
            if target and (known is None or known.before < item.before):
                self._denied[target] = item
                more = True
        return more

    def fresh(self, now: float) -> bool:
        """Whether the newest list seen is still valid."""
        return now <= self._until

    def as_list(self, until: float, more: Iterable[Denied] = ()) -> RevocationList:
        """Everything that is denied, and `more`."""
        both = DenyList()
        both._denied = dict(self._denied)
        both.join(RevocationList(0, tuple(more)))
        return RevocationList(int(until), tuple(both._denied[target] for target in sorted(both._denied)))

    def reason(self, certificate: Certificate) -> str | None:
        """Why this certificate is not believed; None when it is not denied."""
        for end in ndn.prefix_ends(certificate.name):
            item = self._denied.get(certificate.name[:end])
            if item is None:
                continue
            by_key = end >= len(certificate.key_name)
            if by_key or version_of(certificate) < item.before:
                return item.reason or "revoked by the operator"
        return None
