"""What goes wrong, as the OpenAI API says it: a status code and one JSON object.

Owns: the form of an error, and which of ours is which of theirs. Pure. Must not know: aiohttp, who asked.
"""

from __future__ import annotations

import math
from typing import Any, Final

from ndn_infer.errors import (
    BadPacket,
    BadRecord,
    Blocked,
    CallError,
    MissingKey,
    Nacked,
    NdnInferError,
    NetworkError,
    NoForwarder,
    PromptTooLong,
    StorageError,
    Timeout,
    TrustError,
    Unjudged,
    UnknownModel,
    UsageError,
)
from ndn_infer.ndn.lp import REASON_CONGESTION
from ndn_infer.records import TOO_LONG
from ndn_infer.records.codes import UNABLE
from ndn_infer.records.grammar import BAD_GRAMMAR

_TYPES: Final = {401: "authentication_error", 429: "rate_limit_error"}
_NOBODY: Final = frozenset({"unknown-function", "unknown-model", "wrong-engine", "unknown-domain", "not-private"})
"""Codes of producers that cannot answer this: nobody here can."""
RETRY_S: Final = 1.0
"""When to ask again, where nobody says."""


class Refusal(Exception):
    """An answer that is an error. `param` names the field of the request that is at fault; `retry_after_s` is when to
    ask again, 0 for no such advice."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        retry_after_s: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def document(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Whole seconds, rounded up, as HTTP has them; the openai clients read milliseconds too."""
        if not self.retry_after_s:
            return {}
        after = {"Retry-After": str(math.ceil(self.retry_after_s))}
        return {**after, "retry-after-ms": str(math.ceil(self.retry_after_s * 1000))}


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """The request cannot be served as it stands."""
    return Refusal(400, message, param=param, code=code)


def too_long(message: str, param: str = "messages") -> Refusal:
    return bad(message, param, "context_length_exceeded")


def refusal_of(error: NdnInferError) -> Refusal:
    """The answer to a request that ended with one of our errors."""
    text = str(error)
    if isinstance(error, CallError):
        return _of_call(error)
    if isinstance(error, UnknownModel):
        if isinstance(error.__cause__, Timeout | NoForwarder):  # nobody said that there is none
            return Refusal(503, "the network does not answer", code="no_producer", retry_after_s=RETRY_S)
        return Refusal(404, text, param="model", code="model_not_found")
    if isinstance(error, MissingKey):
        return Refusal(500, f"{text}; {error.hint}", code="missing_key")
    if isinstance(error, PromptTooLong):
        return too_long(text)
    if isinstance(error, UsageError):
        return bad(text)
    if isinstance(error, Blocked):
        return bad(text, code="content_filter")
    if isinstance(error, Unjudged):
        return Refusal(503, text, code="no_verdict", retry_after_s=RETRY_S)
    if isinstance(error, NetworkError):
        return _of_network(error)
    if isinstance(error, StorageError):
        return Refusal(503, text, code="storage", retry_after_s=RETRY_S)
    if isinstance(error, TrustError | BadPacket | BadRecord):
        return Refusal(502, text, code="not_trusted")
    return Refusal(500, text, code="internal")


def _of_network(error: NetworkError) -> Refusal:
    if isinstance(error, Timeout):
        return Refusal(504, str(error), code="timeout")
    if isinstance(error, Nacked) and error.reason == REASON_CONGESTION:
        return Refusal(429, "the network is at its limit", code="busy", retry_after_s=RETRY_S)
    if isinstance(error, Nacked):
        return Refusal(503, f"no producer can be reached: {error}", code="no_producer", retry_after_s=RETRY_S)
    return Refusal(503, str(error), code="network", retry_after_s=RETRY_S)


def _of_call(error: CallError) -> Refusal:
    text = str(error)
    if error.code == "busy":
        return Refusal(429, text, code="busy", retry_after_s=error.retry_after_s or RETRY_S)
    if error.code == TOO_LONG:
        return too_long(text)
    if error.code == BAD_GRAMMAR:
        return bad(text, code="invalid_grammar")
    if error.code == "bad-request":
        return bad(text)
    if error.code in ("deadline", "timeout"):
        return Refusal(504, text, code="timeout")
    if error.code in _NOBODY:
        return Refusal(503, text, code="no_producer", retry_after_s=RETRY_S)
    if error.code in UNABLE:
        return Refusal(503, text, code=error.code, retry_after_s=RETRY_S)
    return Refusal(500, text, code=error.code)
