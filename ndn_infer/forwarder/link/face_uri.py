"""Face URIs.

Owns: canonical udp4/udp6/tcp4/tcp6 URIs. Must not know: sockets. Source: FaceUri of ndn-cxx.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from ndn_infer.addresses import split_host_port

_SCHEMES: Final = {"udp4": 4, "udp6": 6, "tcp4": 4, "tcp6": 6}
_AMBIGUOUS: Final = ("udp", "tcp")


class FaceUriError(ValueError):
    """`code` is the status with which NFD answers faces/create for such a URI: 400 or 406."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class FaceUri:
    """A canonical URI: `kind` is "udp" or "tcp", `host` a numeric address, a link-local one with its %interface."""

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
        host, port = split_host_port(rest)
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise FaceUriError(400, "Non-canonical remote URI") from error
    if address.version != _SCHEMES[scheme] or port == 0 or not _is_canonical(host, address):
        raise FaceUriError(400, "Non-canonical remote URI")
    if address.is_multicast:
        raise FaceUriError(406, f"Cannot create multicast {scheme[:3].upper()} faces")
    if address.is_unspecified:
        raise FaceUriError(406, "Cannot create a unicast face to this address")
    return FaceUri(scheme[:3], host, port)


def _is_canonical(host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """One way of writing each address: faces are known by their URI. Link-local addresses name their interface."""
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped is not None:
        return True
    scope = address.scope_id or ""
    return host == str(address) and bool(scope) == address.is_link_local and not scope.startswith("25")


def ip_uri(kind: str, host: str, port: int) -> str:
    return f"{kind}6://[{host}]:{port}" if ":" in host else f"{kind}4://{host}:{port}"
