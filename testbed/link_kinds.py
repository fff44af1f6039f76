"""What crosses a link of the testbed, by kind of name: the packets that one end of it sends, read as they leave.

Owns: reading link packets off a device (AF_PACKET), which kind a packet or a fragment of one is of. Must not know: who
asks, what is claimed of it. Packets of others (ARP, IP without NDN) are one kind. Needs root, as namespaces do.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ndn_infer import namespace, ndn
from ndn_infer.errors import BadPacket, NdnInferError
from ndn_infer.namespace import InstanceQuestion, Question
from ndn_infer.ndn import tlv
from ndn_infer.ndn.lp import LpPacket, decode_lp
from ndn_infer.ndn.name import Name
from ndn_infer.testbed.namespace_entry import enter_namespace

ALL_PROTOCOLS: Final = 0x0003
OUTGOING: Final = 4
ETHERNET_BYTES: Final = 14
IPV4: Final = b"\x08\x00"
UDP: Final = 17
UDP_BYTES: Final = 8
BUFFER_BYTES: Final = 64 << 20
MAX_FRAME_BYTES: Final = 1 << 16
OTHERS: Final = "no NDN packet"
SO_RCVBUFFORCE: Final = 33
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
MOST_FRAGMENTED: Final = 4096


@dataclass(slots=True)
class PacketKinds:
    """The kind of frame after frame of one sender, for the network `net`."""

    net: Name
    _whole: dict[int, str] = field(default_factory=dict)
    """Kinds of packets in fragments, by the sequence number of the first one; the newest MOST_FRAGMENTED."""

    def kind_of(self, frame: bytes) -> str:
        """As words: "Data result", "Interest question offer"."""
        try:
            return self._kind_of_packet(decode_lp(_udp_payload(frame)))
        except NdnInferError:
            return OTHERS

    def _kind_of_packet(self, packet: LpPacket) -> str:
        first = int.from_bytes(packet.sequence or b"", "big") - packet.frag_index
        if packet.frag_index:
            return self._whole.get(first, OTHERS)
        kind = self._kind_of_fragment(packet)
        if packet.frag_count > 1:
            self._whole[first] = kind
            if len(self._whole) > MOST_FRAGMENTED:
                del self._whole[next(iter(self._whole))]
        return kind

    def _kind_of_fragment(self, packet: LpPacket) -> str:
        fragment = packet.fragment
        if not fragment:
            return OTHERS
        name = _name_of(fragment)
        what = "Nack" if packet.nack_reason is not None else "Interest" if fragment[0] == tlv.INTEREST else "Data"
        return f"{what} {kind_words(self.net, name)}"


@dataclass(slots=True)
class LinkKinds:
    """Counts what a device of a namespace sends from `open` on. Bytes are those of whole frames."""

    kinds: PacketKinds
    port: socket.socket

    @classmethod
    def open(cls, net: Name, namespace_name: str, device: str) -> LinkKinds:
        """Raises OSError. A thread enters the namespace and makes the socket, which stays there."""
        made: list[socket.socket | OSError] = []

        def make() -> None:
            try:
                enter_namespace(namespace_name)
                port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
                port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
                port.bind((device, ALL_PROTOCOLS))
                port.setblocking(False)
                made.append(port)
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return cls(PacketKinds(net), made[0])

    def read(self) -> Mapping[str, int]:
        """Bytes by kind since the last time. Raises OSError when packets were lost on the way to us."""
        found: Counter[str] = Counter()
        while True:
            try:
                frame, address = self.port.recvfrom(MAX_FRAME_BYTES)
            except BlockingIOError:
                break
            if address[2] == OUTGOING:
                found[self.kinds.kind_of(frame)] += len(frame)
        statistics = self.port.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        lost = int.from_bytes(statistics[4:], sys.byteorder)
        if lost:
            raise OSError(errno.ENOBUFS, f"{lost} packets were not counted")
        return found

    def close(self) -> None:
        self.port.close()


def _udp_payload(frame: bytes) -> bytes:
    """Raises BadPacket for another protocol."""
    start = ETHERNET_BYTES
    if frame[start - 2 : start] != IPV4 or frame[start + 9 : start + 10] != bytes((UDP,)):
        raise BadPacket("no UDP over IPv4")
    return frame[start + 4 * (frame[start] & 0xF) + UDP_BYTES :]


def _name_of(fragment: bytes) -> Name:
    """Of a packet whose rest may be in other fragments. Raises BadPacket."""
    size = len(fragment)
    _, offset = tlv.read_number(fragment, 0, size)
    _, offset = tlv.read_number(fragment, offset, size)
    kind, start, end = tlv.read_header(fragment, offset, size)
    if kind != tlv.NAME:
        raise BadPacket("a packet starts with its name")
    return ndn.decode_name(fragment, start, end)


def kind_words(net: Name, name: Name) -> str:
    """The kind of a name; of a question also its topic, of discovery that it is."""
    found = namespace.classify(net, name).kind
    words = namespace.kind_label(net, name)
    if isinstance(found, Question | InstanceQuestion):
        words += f" {found.topic}"
    return words + " metadata" * (ndn.METADATA in ndn.components(name))
