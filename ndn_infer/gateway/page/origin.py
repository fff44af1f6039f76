"""Whether a browser that asks shows this gateway's own page, where no keys are set.

Owns: this judgement. Pure. Must not know: keys, routes.

Without keys whoever reaches the port may ask, and a browser reaches it for every page that its user visits. Pages of
others are told by `Origin`, but for two cases: a browser sends none with a GET of one's own origin, and a name of
somebody else may be made to resolve to this machine (DNS rebinding), so that a page of his is of "our" origin. Both are
told by `Host`: an attacker's page has his name there. An address, or `localhost`, is nobody's name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping


def is_no_name(host: str) -> bool:
    """Whether a Host header has an address, or localhost."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return name.startswith("[") == (":" in name)


def own_page(headers: Mapping[str, str], scheme: str) -> bool:
    """Whether a request with an `Origin` comes from the page that this gateway serves at an address."""
    host = headers.get("Host", "")
    return headers.get("Origin") == f"{scheme}://{host}" and is_no_name(host)
