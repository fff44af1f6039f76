"""What is asked of a function: the call as its caller sees it.

Owns: this one record of parameters. Must not know: how it is asked (caller.py), what any function does.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndn_infer.ndn.name import Name
from ndn_infer.records import Record
from ndn_infer.security.domains import PUBLIC


@dataclass(frozen=True, slots=True)
class Ask:
    """`subject` is e.g. ("model", digest); `request` the record that the function takes."""

    subject: tuple[str, str]
    function: str
    request: Record
    domain: str = PUBLIC.label
    """The label of a tenant domain makes the call private: signed by our role, request and answer sealed."""
    advice: tuple[str, ...] = ()
    """As in records.Envelope."""
    at: tuple[Name, ...] = ()
    """Forwarding hints: these producers are asked, and no others."""
    first: Name = b""
    """A forwarding hint: whoever is there is asked before anybody else, as it has what this call goes on from. Others
    are looked for when it does not answer."""
    caller: str = ""
    """As in records.Envelope, where the producer pulls more of this caller than the request."""
    evidence: bool = True
    """As in records.Envelope, and the next."""
    context: str = ""
    salt: int = 0
    """As in records.Envelope: not 0 has the answer computed again, past every cache; drawn anew for each question."""
