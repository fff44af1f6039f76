"""Network addresses as text: "host:port", and what is loopback.

Owns: one parser for every option and URI that holds a host and a port, the words for one that cannot be had. Must not
know: sockets, name resolution, which option a text came from.
"""

from __future__ import annotations

import errno
import ipaddress
from typing import Final

from ndn_infer.errors import AddressTaken, ConfigError

MAX_PORT: Final = 65535


def split_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """host and port of "host:port", "[v6]:port" or ":port"; without a port `default_port`, if there is one.

    The host is "" where none stands. Raises ValueError, whose text says what is right.
    """
    host, separator, port = text, "", ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ipv6(host):
            raise ValueError(f"expected [IPv6 address]:port, not {text!r}")
        separator, port = rest[:1], rest[1:]
    elif text.count(":") > 1:
        raise ValueError(f"write an IPv6 address in brackets, as [::1]:6363, not {text!r}")
    else:
        host, separator, port = text.partition(":")
    if not separator:
        if default_port is None or not host:
            raise ValueError(f"expected host:port, not {text!r}")
        return host, default_port
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > MAX_PORT:
        raise ValueError(f"a port is a number up to {MAX_PORT}, not {port!r}")
    if any(letter.isspace() or letter in "/\0" for letter in host):
        raise ValueError(f"a host has no spaces and no '/', as {host!r} has")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of the loopback interface. A name is none, whatever it begins with: "127.a.example"
    belongs to whoever owns that domain."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def address_error(what: str, error: OSError | UnicodeError) -> AddressTaken | ConfigError:
    """What to tell about an address that cannot be had (UnicodeError: a name that no host can have)."""
    if isinstance(error, UnicodeError):
        return ConfigError(f"cannot listen on {what}: no host has such a name")
    if error.errno == errno.EADDRINUSE:
        return AddressTaken(f"{what} is taken by another process")
    if "path too long" in str(error):  # an OSError without a number
        hint = (
            "a Unix socket's path has 107 bytes at most: set paths.runtime_dir or forwarder.unix_path to a shorter one"
        )
        return ConfigError(f"cannot listen on {what}: {error}", hint=hint)
    return ConfigError(f"cannot listen on {what}: {error.strerror or error}")
