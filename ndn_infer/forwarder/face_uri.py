"""Face URIs and listen addresses as text.

Owns: parsing "host:port" and canonical udp4/udp6/tcp4/tcp6 URIs. Must not know: sockets. Source: FaceUri of ndn-cxx.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

_SCHEMES: Final = {"udp4": 4, "udp6": 6, "tcp4": 4, "tcp6": 6}
_AMBIGUOUS: Final = ("udp", "tcp")


class FaceUriError(ValueError):
    """`code` is the status with which NFD answers faces/create for such a URI: 400 or 406."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class FaceUri:
    """A canonical URI: `kind` is "udp" or "tcp", `host` a numeric address."""

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        return ip_uri(self.kind, self.host, self.port)


def parse_face_uri(text: str) -> FaceUri:
    """Raises FaceUriError (a ValueError) with the status code of NFD."""
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        raise FaceUriError(400, "Malformed command")
    if scheme in _AMBIGUOUS:
        raise FaceUriError(400, "Non-canonical remote URI")
    if scheme not in _SCHEMES:
        raise FaceUriError(406, "Unsupported protocol")
    try:
        host, port = parse_bind(rest)
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise FaceUriError(400, "Non-canonical remote URI") from error
    if address.version != _SCHEMES[scheme] or port == 0:
        raise FaceUriError(400, "Non-canonical remote URI")
    if address.is_multicast:
        raise FaceUriError(406, f"Cannot create multicast {scheme[:3].upper()} faces")
    if address.is_unspecified:
        raise FaceUriError(406, "Cannot create a unicast face to this address")
    return FaceUri(scheme[:3], host, port)


def parse_bind(text: str) -> tuple[str, int]:
    """host and port of "host:port", "[v6]:port" or ":port"; raises ValueError."""
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"expected host:port, not {text!r}")
    return host.strip("[]") or "0.0.0.0", int(port)


def ip_uri(kind: str, host: str, port: int) -> str:
    return f"{kind}6://[{host}]:{port}" if ":" in host else f"{kind}4://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Loopback counts as local also over UDP: python-ndn expects it (NFD does not, NDNd does)."""
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")
