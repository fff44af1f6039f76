"""NFD as the forwarder of a testbed node: its configuration, and how it is started.

Owns: nfd.conf for one node. Must not know: faces and routes (managed.py makes them, as for our forwarder).
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Final

from ndn_infer.errors import UsageError

DATASET_KEPT_S: Final = 1.1
"""A little longer than NFD's Content Store keeps a management dataset: what is read later is of today."""

_CONF: Final = """general {{ }}
log {{ default_level WARN }}
forwarder {{ default_hop_limit 0 }}
tables
{{
  cs_max_packets 65536
  cs_policy lru
  cs_unsolicited_policy drop-all
  strategy_choice
  {{
    /               /localhost/nfd/strategy/best-route
    /localhost      /localhost/nfd/strategy/multicast
    /localhost/nfd  /localhost/nfd/strategy/best-route
  }}
}}
face_system
{{
  general {{ enable_congestion_marking yes }}
  unix {{ path {socket} }}
  udp
  {{
    listen yes
    port {port}
    enable_v4 yes
    enable_v6 no
    idle_timeout 600
    unicast_mtu 1400
    mcast no
  }}
}}
authorizations
{{
  authorize
  {{
    certfile any
    privileges {{ faces
 fib
 cs
 strategy-choice
 }}
  }}
}}
rib
{{
  localhost_security {{ trust-anchor {{ type any }} }}
  prefix_announcement_validation {{ trust-anchor {{ type any }} }}
  readvertise_nlsr no
}}
"""


def program() -> str:
    """Raises UsageError where NFD is not on PATH."""
    found = shutil.which("nfd")
    if found is None:
        raise UsageError("there is no nfd on PATH", hint="install NFD (named-data.net), or leave out --forwarder nfd")
    return found


def write_configuration(home: Path, socket_path: Path, port: int) -> Path:
    """nfd.conf in a node's home; returns its path."""
    path = home / "nfd.conf"
    path.write_text(_CONF.format(socket=socket_path, port=port))
    return path


def answers(socket_path: Path) -> bool:
    """Whether it accepts connections. A file that a killed one left behind refuses them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path))
        except OSError:
            return False
    return True
