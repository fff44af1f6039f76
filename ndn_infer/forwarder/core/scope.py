"""Where packets may go: /localhost stays on the host, /localhop within one hop, and HopLimit ends somewhere.

Pure. Must not know: tables. Source: NFD developer guide, section 4 (scope); NFD, wouldViolateScope and
onOutgoingInterest.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.forwarder.core.faces import Face
from ndn_infer.ndn.name import Name, from_uri

LOCALHOST: Final = from_uri("/localhost")
LOCALHOP: Final = from_uri("/localhop")


def within_scope(name: Name, face: Face, out: Face, last_hop: bool) -> bool:
    """Whether an Interest that came from `face` may leave by `out`; `last_hop`: its HopLimit is used up."""
    if out.local:
        return True
    return not (last_hop or name.startswith(LOCALHOST) or (not face.local and name.startswith(LOCALHOP)))
