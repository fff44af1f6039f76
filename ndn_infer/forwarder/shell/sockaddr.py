"""Socket addresses of the system, and the URIs they have as faces.

Owns: scope ids of link-local IPv6 addresses, which a node with several interfaces cannot answer without; interface
names for them in URIs, as ndn-cxx's FaceUri has them (udp6://[fe80::1%eth0]:6363). Must not know: faces, packets.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from ndn_infer.forwarder.link.face_uri import FaceUri, ip_uri

SockAddress = tuple[str, int] | tuple[str, int, int, int]
"""(host, port), and for IPv6 also flow label 0 and scope id (an interface's index; 0 without a scope)."""


def without_flow(address: Any) -> SockAddress:
    """What stays the same for all packets of a peer."""
    if len(address) == 2:
        return (address[0], address[1])
    return (address[0], address[1], 0, address[3])


def host_text(address: SockAddress) -> str:
    """The host, with %interface for a scoped address."""
    if len(address) == 2 or not address[3]:
        return address[0]
    try:
        interface = socket.if_indextoname(address[3])
    except OSError:  # it went meanwhile
        interface = str(address[3])
    return f"{address[0]}%{interface}"


def uri_of(kind: str, address: Any) -> str:
    """`kind` is "udp", "tcp" and so on; `address` as a socket gives it."""
    peer = without_flow(address)
    return ip_uri(kind, host_text(peer), peer[1])


def address_of(uri: FaceUri) -> SockAddress:
    """Raises OSError when there is no such interface."""
    host, _, interface = uri.host.partition("%")
    if ":" not in host:
        return (host, uri.port)
    try:
        scope = socket.if_nametoindex(interface) if interface else 0
    except OSError as error:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error
    return (host, uri.port, 0, scope)
