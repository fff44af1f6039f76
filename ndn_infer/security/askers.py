"""Who sent a signed Interest, proved in bounded time and room.

Owns: which Interests may wait for the certificate of their signer, for how long, and who gives way. Must not know: what
is asked, packets.

Anybody can send Interests that name certificates which nobody serves; each would wait for seconds. A signer whose key
is known already is therefore verified at once and waits for nothing; of the others the oldest of the neighbour that
has most gives way, so that an honest newcomer, whose certificate comes within milliseconds, gets through a flood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from ndn_infer.errors import Busy, CertificateUnavailable
from ndn_infer.ndn.packet import Interest
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.wire.shares import Crowd

MAX_WAITING: Final = 64
WAIT_S: Final = 3.0
"""For one certificate chain; whoever asks again later finds what came meanwhile."""


class Askers:
    """Over the keys of one validator."""

    def __init__(self, validator: Validator, *, limit: int = MAX_WAITING, wait_s: float = WAIT_S) -> None:
        self._validator = validator
        self._crowd = Crowd(limit)
        self._wait_s = wait_s

    def __len__(self) -> int:
        return len(self._crowd)

    def known(self, interest: Interest) -> Validated | None:
        """Who signed, if that key was verified before; None when its certificate is to be fetched.

        Raises as Validator.validate_interest: an Interest that is not signed, or seen before, is refused here.
        """
        return self._validator.try_validate_interest(interest)

    async def newcomer(self, interest: Interest, who: Hashable) -> Validated:
        """Who signed, after fetching certificates; `who` is the neighbour it came from.

        Raises as Validator.validate_interest, CertificateUnavailable after WAIT_S, Busy when it had to give way.
        """
        task = asyncio.current_task()
        assert task is not None
        place = self._crowd.enter(who, task.cancel)
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._validator.validate_interest(interest)
        except asyncio.CancelledError:
            if place.evicted and task.uncancel() == 0:
                raise Busy("too many strangers ask here; ask again") from None
            raise
        except TimeoutError:
            raise CertificateUnavailable(f"the certificate of who asks did not come in {self._wait_s:g} s") from None
        finally:
            self._crowd.leave(place)
