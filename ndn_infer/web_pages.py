"""Which web pages may use our HTTP ports: compared exactly, never by how a name begins.

Owns: what `Origin` and `Host` of a request say. Pure. Must not know: aiohttp, faces. A page reaches ports of the
machine whose browser shows it, by an address or by a name of its own that it lets resolve to that machine (DNS
rebinding); the browser tells the page in `Origin` and the name in `Host`. Programs send no Origin.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from ndn_infer.addresses import is_address, is_loopback


def from_this_machine(origins: Sequence[str], hosts: Sequence[str]) -> bool:
    """Whether a program, or a page that this machine serves, asked for this machine by address or as `localhost`.

    `origins` and `hosts` are all values of the two headers: none or one, and exactly one.
    """
    if len(hosts) != 1 or not _is_this_machine(_host_of(f"//{hosts[0]}")):
        return False
    return not origins or (len(origins) == 1 and _is_this_machine(_host_of(origins[0])))


def asked_for(hosts: Sequence[str], names: Collection[str]) -> bool:
    """Whether a request asked for this server: by an address (no page can own one), as `localhost`, or by one of
    `names`."""
    host = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else None
    return host is not None and (host == "localhost" or is_address(host) or host in names)


def _is_this_machine(host: str | None) -> bool:
    return host is not None and (host == "localhost" or is_loopback(host))


def _host_of(url: str) -> str | None:
    """Lower case, without port and brackets; None where there is none or more than a host."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return None if parts.username is not None or parts.path not in ("", "/") else parts.hostname
