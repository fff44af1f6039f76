"""What went wrong, as an answer says it, and as its reader raises it.

Owns: the one table of errors and codes. Must not know: which call or question it was.
"""

from __future__ import annotations

import logging

from ndn_infer.errors import BadPacket, BadRecord, CallError, NdnInferError, UsageError
from ndn_infer.records import CallAnswer

log = logging.getLogger(__name__)


def failure(error: Exception, what: str) -> CallAnswer:
    """The answer to whoever asked. `what` names the work, for the log and for defects, of which the asker is told only
    that there is one."""
    text = str(error)
    if isinstance(error, CallError):
        back_ms = round(error.retry_after_s * 1000)
        return CallAnswer(code=error.code, error=text, offered=error.offered, retry_after_ms=back_ms)
    if isinstance(error, UsageError | BadRecord | BadPacket):
        return CallAnswer(code="bad-request", error=text)
    if isinstance(error, NdnInferError):
        log.warning("%s failed: %s", what, error)
        return CallAnswer(code="failed", error=f"{error.kind}: {error}")
    log.error("%s failed", what, exc_info=error)
    return CallAnswer(code="internal", error=f"{type(error).__name__} in {what}")


def failed(answer: CallAnswer) -> CallError:
    """The error in an answer that has a code."""
    said, back_s = answer.error or answer.code, answer.retry_after_ms / 1000
    return CallError(said, code=answer.code, retry_after_s=back_s, offered=answer.offered)
