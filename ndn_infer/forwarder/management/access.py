"""Who may command the forwarder.

Owns: the question that is put to an authority, and the default answer: whoever reaches a local face may (NFD's
`localhost_security any`), nobody else (its `localhop_security`, unconfigured). Pure. Must not know: keys, certificates;
an authority that verifies them is given by the application (apps/forwarder.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Interest


@dataclass(frozen=True, slots=True)
class CommandClaim:
    """A command that somebody sent. `prefix` is the Name it is about, None where a command has none; `local` says
    whether it came below /localhost, which only local faces can use, `private` whether by a private one; `own_face`
    whether it changes nothing but the face that it came from, which is `face_id`."""

    interest: Interest
    module: str
    verb: str
    prefix: Name | None
    local: bool
    own_face: bool = False
    private: bool = False
    face_id: int = 0


Verdict = Callable[[str | None], None]
"""Called once, at once or later: None, it may; or why not, in one line."""

Authority = Callable[[CommandClaim, Verdict], None]


def anybody_local(claim: CommandClaim, verdict: Verdict) -> None:
    """The default authority."""
    verdict(None if claim.local else "this forwarder takes commands from local faces only")
