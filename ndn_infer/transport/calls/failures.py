"""What went wrong, as an answer says it, and as its reader raises it.

Owns: the one table of errors and codes. Must not know: which call or question it was.
"""

from __future__ import annotations

import logging

from ndn_infer.errors import (
    BadPacket,
    BadRecord,
    CallError,
    CertificateUnavailable,
    MissingKey,
    NdnInferError,
    NetworkError,
    RevocationsUnknown,
    StorageError,
    TrustError,
    UsageError,
)
from ndn_infer.records import CallAnswer
from ndn_infer.records.codes import BAD_REQUEST, FAILED, INTERNAL, NO_ROOM, NOT_TRUSTED, UNREACHABLE

log = logging.getLogger(__name__)


def failure(error: Exception, what: str) -> CallAnswer:
    """The answer to whoever asked. `what` names the work, for the log and for defects, of which the asker is told only
    that there is one."""
    text = str(error)
    if isinstance(error, CallError):
        back_ms = round(error.retry_after_s * 1000)
        return CallAnswer(code=error.code, error=text, offered=error.offered, retry_after_ms=back_ms)
    if isinstance(error, UsageError | BadRecord | BadPacket):
        return CallAnswer(code=BAD_REQUEST, error=text)
    code = code_of(error)
    if isinstance(error, NdnInferError):
        log.warning("%s failed (%s): %s", what, code, error)
        return CallAnswer(code=code, error=f"{error.kind}: {error}")
    log.error("%s failed", what, exc_info=error)
    return CallAnswer(code=code, error=f"{type(error).__name__} in {what}")


def code_of(error: Exception) -> str:
    """The code of what went wrong while somebody was asked to do something. A fault of the network, of a neighbour or
    of a full disk is none of the producer: it is told from a defect, since others may do better."""
    if not isinstance(error, NdnInferError):
        return INTERNAL
    if isinstance(error, CallError):
        return error.code
    if isinstance(error, UsageError | BadRecord | BadPacket):
        return BAD_REQUEST
    if isinstance(error, NetworkError | CertificateUnavailable | RevocationsUnknown):
        return UNREACHABLE
    if isinstance(error, TrustError) and not isinstance(error, MissingKey):
        return NOT_TRUSTED
    return NO_ROOM if isinstance(error, StorageError) else FAILED


def failed(answer: CallAnswer) -> CallError:
    """The error in an answer that has a code."""
    said, back_s = answer.error or answer.code, answer.retry_after_ms / 1000
    return CallError(said, code=answer.code, retry_after_s=back_s, offered=answer.offered)
