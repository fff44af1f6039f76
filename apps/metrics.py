"""What Prometheus and Grafana need to watch this network.

ndn-infer metrics list                             every metric, its labels and meaning
ndn-infer metrics rules > ndn-infer.rules.yml      recording rules: vLLM's metric names
ndn-infer metrics prometheus > prometheus.yml      a configuration that scrapes this machine
ndn-infer metrics dashboard > ndn-infer.json       a dashboard, to be imported into Grafana

Daemons give their metrics where 'metrics.listen' says (docs/metrics.md), the gateway at its own port.
"""

from __future__ import annotations

import argparse
import json

from ndn_infer.addresses import split_host_port
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.functions import registry
from ndn_infer.metrics import catalogue
from ndn_infer.metrics.dashboard import dashboard
from ndn_infer.metrics.rules import prometheus_file, rules_file

DEFAULT_LISTEN = "127.0.0.1:9464"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("list", "rules", "prometheus", "dashboard"))
    parser.add_argument(
        "--target", action="append", default=[], metavar="HOST:PORT",
        help="prometheus: scrape this one; may be repeated (default: the processes of 'up' and the gateway)",
    )  # fmt: skip
    parser.add_argument(
        "--rules-file", default="ndn-infer.rules.yml", metavar="FILE", help="prometheus: where they are"
    )


def run(options: argparse.Namespace, config: Config) -> int:
    match options.what:
        case "list":
            for metric in catalogue.ALL.values():
                print(f"{metric.name} ({metric.kind}) {{{', '.join(metric.labels)}}}\n    {metric.help}")
        case "rules":
            print(rules_file(), end="")
        case "prometheus":
            print(prometheus_file(_targets(options.target) or local_targets(config), options.rules_file), end="")
        case _:
            print(json.dumps(dashboard(), indent=1))
    return 0


def _targets(given: list[str]) -> list[str]:
    for text in given:
        try:
            split_host_port(text)
        except ValueError as error:
            raise UsageError(f"--target {text}: {error}") from error
    return given


def local_targets(config: Config) -> list[str]:
    """Of the processes that 'up' starts with this configuration, and of the gateway."""
    host, port = split_host_port(config.metrics.listen or DEFAULT_LISTEN)
    count = 1 + len(registry.processes(registry.known(config.producer.functions)))
    shown = f"[{host}]" if ":" in host else host
    return [*(f"{shown}:{port + index}" for index in range(count)), config.gateway.listen]
