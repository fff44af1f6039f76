"""A producer out of a joined node: how it calls others.

Owns: which parts a producer process has. Must not know: which functions it offers.
"""

from __future__ import annotations

from ndn_infer import ndn
from ndn_infer.functions.base import Host
from ndn_infer.functions.producer import Producer
from ndn_infer.node.faults import FaultFile
from ndn_infer.node.node import Node
from ndn_infer.node.node_samples import read_node
from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.offers.live.faults import Faults
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.prompt_log.policy import DECODE
from ndn_infer.storage.opening import open_store
from ndn_infer.telemetry.spans import Tracer
from ndn_infer.transport.calls.inputs import Inputs, new_instance
from ndn_infer.transport.objects.serve import Server


def build_producer(node: Node, role: str, instance: str = "", tracer: Tracer | None = None) -> tuple[Producer, Host]:
    """The network side of a producer process. Its own large requests are published under `role`. `instance` tells it
    from other processes of its identity; "" draws one. The caller closes producer and store."""
    config = node.config
    server = Server(node.endpoint, open_store(config, role))
    signer = node.signer_as(role)
    access = node.access(signer, renews=True)
    instance = instance or new_instance()
    inputs = Inputs(
        node.net, server, signer, registrar=node.registrar, certificates=node.keychain.certificates,
        instance=instance,
    )  # fmt: skip
    offers = Offers(Where.of(node.net, node.endpoint, node.validator, config))
    faults = Faults(FaultFile(config), [*map(ndn.from_uri, config.audit.trusted)])
    chooser = OfferChooser(offers, faults) if config.offers.choose == "soonest" else None
    caller = node.caller(inputs=lambda: inputs, access=access, chooser=chooser)
    host = Host(
        node, server, caller, access=access, instance=instance, tracer=tracer, offers=offers,
        log_writers=LogWriters(node, DECODE, signer, inputs) if config.recording.policies else None,
    )  # fmt: skip
    read_node(host.meters, node)
    return Producer(host, node.keychain, node.registrar, offers), host
