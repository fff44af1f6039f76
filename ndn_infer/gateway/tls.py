"""TLS of the gateway: certificate and key from files, read again when they have changed.

Owns: which certificate a handshake gets. Must not know: what is served. No timer: a handshake looks at the files, once
a second at most.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from ndn_infer import clock
from ndn_infer.config import GatewayConfig
from ndn_infer.errors import ConfigError
from ndn_infer.gateway.keys import read_secret
from ndn_infer.gateway.tenants import stamp_of

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
MAX_KEY: Final = 1 << 16


class TlsFiles:
    """`context` is what a server listens with; each handshake takes the newest certificate that could be read."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises ConfigError."""
        self._certificate = certificate
        self._key = key
        self._looked_at = clock.monotonic()
        self._stamp = self._stamps()
        self._newest = self._load()
        self.context = self._newest
        self.context.sni_callback = self._greeted

    @classmethod
    def of(cls, config: GatewayConfig) -> TlsFiles | None:
        """None where no certificate is configured. Raises ConfigError."""
        if not config.tls_cert and not config.tls_key:
            return None
        if not (config.tls_cert and config.tls_key):
            raise ConfigError("TLS takes two files: gateway.tls_cert and gateway.tls_key")
        return cls(Path(config.tls_cert).expanduser(), Path(config.tls_key).expanduser())

    def _greeted(self, connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, whether the client names a server or not."""
        now = clock.monotonic()
        if now >= self._looked_at + LOOK_S:
            self._looked_at = now
            self._look()
        connection.context = self._newest

    def _look(self) -> None:
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._newest = self._load()
        except ConfigError as error:
            log.error("%s; the certificate that was read before holds on", error)
        else:
            log.info("read the TLS certificate again")

    def _stamps(self) -> object:
        return stamp_of(self._certificate), stamp_of(self._key)

    def _load(self) -> ssl.SSLContext:
        read_secret(self._key, MAX_KEY, "the TLS key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(f"no TLS with {self._certificate} and {self._key}: {error}") from error
        return context


def _no_password() -> str:
    """A key with a password would make the server wait for somebody to type it."""
    raise ValueError("the key has a password")
