"""Getting certificates: each is fetched once for all who wait for it, a few times before giving up.

Owns: single flight, retries and the short memory of failures. Must not know: sockets (the fetch is a callable), trust.
Nothing is verified here: what `fetch` returns is a certificate by its form, of the name asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, CertificateUnavailable, NdnInferError, TrustError
from ndn_infer.ndn.name import Name
from ndn_infer.security.certificate import Certificate, parse
from ndn_infer.wire import again

logger = logging.getLogger(__name__)

TRIES: Final = 3
BACKOFF_S: Final = (0.2, 0.6)
FAILURE_S: Final = 1.0
"""For how long a certificate that could not be had, or was no good, is not asked for again."""

MAX_FETCHES: Final = 256
"""Certificates being fetched at one time; beyond it a packet that needs another one is refused at once."""

MAX_REMEMBERED: Final = 1024

FetchCertificate: TypeAlias = Callable[[Name], Awaitable[bytes]]
"""Fetches the Data packet of a certificate. The name is a certificate's, or a key's (`<identity>/KEY/<key id>`, when
the signer's locator stops there, or its certificate has expired and may have been renewed): then ask with CanBePrefix
and MustBeFresh. May raise anything; the bytes need not be verified."""


class CertificateFetcher:
    """`monotonic` and `sleep` are the clock of retries."""

    def __init__(
        self,
        fetch_certificate: FetchCertificate,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._fetch_certificate = fetch_certificate
        self._monotonic = monotonic
        self._sleep = sleep
        self._tasks: dict[Name, asyncio.Task[Certificate | TrustError]] = {}
        self._waiting: Counter[Name] = Counter()
        self._failures: OrderedDict[Name, tuple[float, TrustError]] = OrderedDict()
        self._offered: OrderedDict[Name, Certificate] = OrderedDict()
        self._suspect: OrderedDict[Name, None] = OrderedDict()

    def offer(self, certificate: Certificate) -> None:
        """Have this certificate at hand instead of fetching it."""
        self._offered[certificate.name] = certificate
        newest = self._offered.get(certificate.key_name)
        if newest is None or newest.not_after < certificate.not_after:
            self._offered[certificate.key_name] = certificate
        while len(self._offered) > MAX_REMEMBERED:
            self._offered.popitem(last=False)

    def reject(self, asked: Name, certificate: Certificate, error: TrustError) -> None:
        """What came for the name `asked` is no good: raise the same error for a moment instead of fetching it again.

        Only this name is refused: a stranger may have chosen it, and must not shut out others of the same key.
        """
        if self._offered.get(certificate.key_name) is certificate:
            del self._offered[certificate.key_name]
        self._offered.pop(certificate.name, None)
        self._suspect[asked] = None
        while len(self._suspect) > MAX_REMEMBERED:
            self._suspect.popitem(last=False)
        self._fail(asked, error)

    async def fetch(self, name: Name) -> Certificate:
        """The certificate of this name, or some certificate of this key.

        Raises CertificateUnavailable, or what `reject` was given. A caller that is cancelled leaves the fetch to those
        who still wait; the last one ends it, so that nobody fills MAX_FETCHES with what nobody waits for.
        """
        offered = self._offered.get(name)
        if offered is not None:
            return offered
        failed = self._failures.get(name)
        if failed is not None and self._monotonic() < failed[0]:
            raise _again(failed[1])
        task = self._tasks.get(name)
        if task is None:
            if len(self._tasks) >= MAX_FETCHES:
                raise _unavailable(name, f"{MAX_FETCHES} certificates are being fetched already")
            task = asyncio.get_running_loop().create_task(self._run(name))
            self._tasks[name] = task
            task.add_done_callback(lambda ended: self._ended(name, ended))
        self._waiting[name] += 1
        try:
            outcome = await asyncio.shield(task)
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name]
                task.cancel()
                self._ended(name, task)
        if isinstance(outcome, TrustError):
            raise _again(outcome)
        return outcome

    def _ended(self, name: Name, task: asyncio.Task[Certificate | TrustError]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _run(self, name: Name) -> Certificate | TrustError:
        """The certificate, or why there is none: a task that nobody awaits any more must not end in an exception."""
        reason = ""
        for number in range(TRIES):
            if number:
                await self._sleep(BACKOFF_S[min(number, len(BACKOFF_S)) - 1])
            try:
                return _of_name(parse(await self._packet(name)), name)
            except (TrustError, BadPacket) as error:
                reason = str(error)
                self._suspect[name] = None
            except NdnInferError as error:
                reason = str(error)
            except Exception as error:  # whatever the fetch does wrong, a validation ends with a TrustError
                reason = f"{type(error).__name__}: {error}"
                logger.debug("fetching %s failed", ndn.to_uri(name), exc_info=True)
        unavailable = _unavailable(name, reason)
        self._fail(name, unavailable)
        return unavailable

    async def _packet(self, name: Name) -> bytes:
        """What the network has under this name; past its caches when that was no good the last time."""
        if name not in self._suspect:
            return await self._fetch_certificate(name)
        del self._suspect[name]
        return again.unwrap(await self._fetch_certificate(again.question(name, os.urandom(again.NONCE_BYTES))))

    def _fail(self, name: Name, error: TrustError) -> None:
        self._failures[name] = (self._monotonic() + FAILURE_S, error)
        self._failures.move_to_end(name)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    async def aclose(self) -> None:
        """Stop what is still being fetched."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _of_name(certificate: Certificate, asked: Name) -> Certificate:
    if asked not in (certificate.name, certificate.key_name):
        raise TrustError(f"what came back is {ndn.to_uri(certificate.name)}")
    return certificate


def _again(error: TrustError) -> TrustError:
    """A copy, since one exception object cannot be raised in several tasks without mixing their tracebacks."""
    return type(error)(str(error), hint=error.hint)


def _unavailable(name: Name, reason: str) -> CertificateUnavailable:
    return CertificateUnavailable(f"cannot get certificate {ndn.to_uri(name)}: {reason}")
