"""Codes of answers that more than one unit reads: what is wrong, for programs.

Owns: the words, and which of them say that somebody else, or the same one later, may do it. Must not know: errors, who
asks. Codes of one function alone stand with it.
"""

from __future__ import annotations

from typing import Final

BAD_REQUEST: Final = "bad-request"
"""What was sent is wrong, and will be whenever and of whomever it is asked."""
BUSY: Final = "busy"
UNREACHABLE: Final = "unreachable"
"""What the work needs of others did not come: an input, a certificate, a call of its own."""
NOT_TRUSTED: Final = "not-trusted"
"""What came of others for it must not be believed."""
NO_ROOM: Final = "no-room"
"""A store or disk that the work needs is full or cannot be written."""
FAILED: Final = "failed"
"""A defect of a producer, or of what was installed there."""
INTERNAL: Final = "internal"
"""A defect that nobody foresaw."""

UNABLE: Final = frozenset({UNREACHABLE, NOT_TRUSTED, NO_ROOM})
"""It understood and could not: the fault is neither in the request nor in the producer."""
PASSING: Final = UNABLE | {BUSY}
"""Reasons for which another producer is asked, and the same one later."""
