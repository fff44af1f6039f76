"""What an application counts of its packets, as samples of metrics; read when somebody asks.

Owns: which of these counters is which metric. Must not know: what the application does.
"""

from __future__ import annotations

from collections.abc import Iterator

from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Meters, Sample
from ndn_infer.node.node import Node


def read_node(meters: Meters, node: Node) -> None:
    """From now on `meters` read the node's counters too."""
    meters.read_from(("node", id(node)), lambda: node_samples(node))


def node_samples(node: Node) -> Iterator[Sample]:
    stats = node.endpoint.stats
    packets = {
        ("out", "interest"): stats.interests_out, ("in", "data"): stats.data_in, ("in", "nack"): stats.nacks_in,
        ("in", "interest"): stats.interests_in, ("out", "data"): stats.data_out, ("out", "nack"): stats.nacks_out,
    }  # fmt: skip
    for labels, value in packets.items():
        yield Sample(m.PACKETS, labels, value)
    yield Sample(m.RETRANSMISSIONS, (), stats.retransmitted)
    yield Sample(m.TIMEOUTS, (), stats.timeouts)
    yield Sample(m.UNSOLICITED, (), stats.unsolicited)
    yield Sample(m.MALFORMED, (), stats.malformed)
    yield Sample(m.CONNECTED, (), node.endpoint.connected)
    yield Sample(m.VERIFICATION_FAILURES, ("BadDigest",), stats.refused)
    for reason, value in node.validator.rejected.counts.items():
        yield Sample(m.VERIFICATION_FAILURES, (reason,), value)
