"""A producer out of a joined node: where its objects are kept, how it calls others.

Owns: which parts a producer process has. Must not know: which functions it offers.
"""

from __future__ import annotations

from pathlib import Path

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.functions.base import Host
from ndn_infer.functions.producer import Producer
from ndn_infer.node.faults import FaultFile
from ndn_infer.node.node import Node
from ndn_infer.node.node_samples import read_node
from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.offers.live.faults import Faults
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.storage.disk import DiskStore
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.storage.policy import policies_of
from ndn_infer.storage.tiered import TieredStore
from ndn_infer.telemetry.spans import Tracer
from ndn_infer.transport.calls.inputs import Inputs, new_instance
from ndn_infer.transport.objects.serve import Server


def open_store(config: Config, role: str) -> ObjectStore:
    """The store that the configuration asks for: in memory, or on disk as well. Each producer of a node has a file of
    its own. Raises ConfigError."""
    settings = config.producer
    if not settings.store_path:
        return ObjectStore(settings.store_mib << 20)
    path = Path(settings.store_path).expanduser()
    policies = policies_of(settings.store_policies)
    disk = DiskStore(path.with_name(f"{path.name}.{role}"), settings.store_disk_mib << 20, policies=policies)
    return TieredStore(settings.store_mib << 20, disk)


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
        node.net, config, server, node.fetcher, caller, access=access, instance=instance, tracer=tracer, offers=offers,
        validator=node.validator,
    )  # fmt: skip
    read_node(host.meters, node)
    return Producer(host, node.keychain, node.registrar, offers), host
