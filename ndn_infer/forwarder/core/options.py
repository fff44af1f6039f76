"""Options of the embedded forwarder."""

from __future__ import annotations

from dataclasses import dataclass

from ndn_infer.ndn.name import Name


@dataclass(frozen=True, slots=True)
class ForwarderOptions:
    """What `daemon.ForwarderDaemon` needs to know. Addresses are "host:port", several separated by spaces, without host
    all of this machine, IPv4 and IPv6; None means no such listener.

    `producer_regions` are the names of the network regions this forwarder belongs to: a ForwardingHint that reached
    one of them has done its work (NFD developer guide, section 4.2). `udp_mtu_bytes` is the largest UDP payload; larger
    packets are fragmented. `unix_mode` are the permission bits of the Unix socket.

    `max_stream_faces` is how many TCP and WebSocket connections are accepted, `all_queues_bytes` what may wait to be
    sent to all stream faces together.

    `cs_protected` prefixes are evicted last, `cs_counted` ones counted apart; `cs_disk_path` is the file of the second
    tier, None for none. `local_commands` is "any" or "signed", and so is `loopback_commands`, for those that come by a
    port of this machine and not by its Unix socket; `remote_commands` is "off" or "signed".
    """

    unix_path: str | None = None
    unix_mode: int = 0o600
    tcp_bind: str | None = None
    udp_bind: str | None = None
    ws_bind: str | None = None
    cs_capacity_packets: int = 65536
    cs_capacity_bytes: int = 512 << 20
    pit_capacity: int = 200_000
    pit_capacity_bytes: int = 512 << 20
    producer_regions: tuple[Name, ...] = ()
    face_queue_bytes: int = 8 << 20
    udp_mtu_bytes: int = 1400
    udp_idle_timeout_s: float = 600.0
    max_udp_faces: int = 4096
    max_stream_faces: int = 512
    all_queues_bytes: int = 256 << 20
    cs_protected: tuple[Name, ...] = ()
    cs_counted: tuple[Name, ...] = ()
    cs_disk_path: str | None = None
    cs_disk_bytes: int = 1 << 30
    local_commands: str = "any"
    loopback_commands: str = "signed"
    remote_commands: str = "off"
    metrics_bind: str | None = None
