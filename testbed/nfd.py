"""NFD as the forwarder of a testbed node: its configuration, and how it is started.

Owns: nfd.conf for one node. Must not know: faces and routes (managed.py makes them, as for our forwarder).
"""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.errors import UsageError

DATASET_KEPT_S: Final = 1.1
"""A little longer than NFD's Content Store keeps a management dataset: what is read later is of today."""

_CONF: Final = """general {{ }}
log {{ default_level {log_level} }}
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
    /ndn/broadcast  /localhost/nfd/strategy/multicast
  }}
}}
face_system
{{
  general {{ enable_congestion_marking yes }}
  unix {{ path {socket} }}
  {tcp}
  {udp}
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
  {localhop}
  prefix_announcement_validation {{ trust-anchor {{ type any }} }}
  readvertise_nlsr no
}}
"""
_TCP: Final = """tcp
  {{
    listen {listen}
    port {port}
    enable_v4 yes
    enable_v6 no
  }}"""
_UDP: Final = """udp
  {{
    listen {listen}
    port {port}
    enable_v4 yes
    enable_v6 no
    idle_timeout 600
    unicast_mtu {mtu}
    mcast no
  }}"""
_LOCALHOP: Final = "localhop_security { trust-anchor { type any } }"


@dataclass(frozen=True, slots=True)
class NfdSettings:
    """Of one NFD. Port 0: no faces of that kind. Without `listen` it makes faces only when told to. `localhop`: it
    takes routes from applications of other hosts, whoever signs."""

    udp: int = 0
    tcp: int = 0
    listen: bool = True
    mtu: int = 1400
    log_level: str = "WARN"
    localhop: bool = False

    def text(self, socket_path: Path) -> str:
        """nfd.conf."""
        listen = "yes" if self.listen else "no"
        return _CONF.format(
            log_level=self.log_level, socket=socket_path, localhop=_LOCALHOP if self.localhop else "",
            tcp=_TCP.format(listen=listen, port=self.tcp) if self.tcp else "",
            udp=_UDP.format(listen=listen, port=self.udp, mtu=self.mtu) if self.udp else "",
        )  # fmt: skip


def program() -> str:
    """Raises UsageError where NFD is not on PATH."""
    found = shutil.which("nfd")
    if found is None:
        raise UsageError("there is no nfd on PATH", hint="install NFD (named-data.net), or leave out --forwarder nfd")
    return found


def write_configuration(home: Path, socket_path: Path, settings: NfdSettings) -> Path:
    """nfd.conf in a node's home; returns its path."""
    path = home / "nfd.conf"
    path.write_text(settings.text(socket_path))
    return path


def answers(socket_path: Path) -> bool:
    """Whether it accepts connections. A file that a killed one left behind refuses them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path))
        except OSError:
            return False
    return True
