"""Measure, with the peers in the same run; prints a table for people and ends with one JSON line.

ndn-infer bench ask        one prompt through the network against the same engine in process
ndn-infer bench choose     two decode nodes, one of which holds the prefix: choosing by offers against the network
ndn-infer bench fetch      one large object by name, every byte verified, beside ndnget, python-ndn, HTTP and Redis
ndn-infer bench decode     the engine alone against llama.cpp, transformers and vLLM, where they are installed
ndn-infer bench device     the engine on engine.device (a GPU), and a prompt's KV there computed against had by name
ndn-infer bench gateway    1, 4 and 16 streams through the gateway against the same engine in process
ndn-infer bench guard      what a policy costs: first token and tokens a second at hold-backs of 1, 8 and 32
ndn-infer bench kv         KV cache pulled by name against computing it again, and against Redis
ndn-infer bench forwarder  the embedded forwarder against NFD, where it is on PATH
ndn-infer bench log        a prompt log: a million leaves, proofs out of them, sealed records on disk
ndn-infer bench pipeline   three stages over the network against the same stages in one process
ndn-infer bench readers    a hundred readers of one stream, bytes that leave its producer, beside server-sent events
ndn-infer bench record     what a signed record of an answer costs, to make and at the end of an answer
ndn-infer bench retrieval  what each ranking finds in a corpus of mixed formats; --passages N: an index of N, its cost
ndn-infer bench structured decoding within a grammar beside decoding without, by the same engine
ndn-infer bench svs        State Vector Sync of 100 (--full: and 1,000) members in virtual time, with loss
ndn-infer bench vllm       what sharing KV blocks costs a vLLM instance, beside safetensors on disk and Redis
ndn-infer bench trace      Content Stores at edges and core under a real service's trace, against one central LRU
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Final

from ndn_infer.config import Config
from ndn_infer.console.signals import ended_by_signals

BENCHES: Final = {
    "ask": "ndn_infer.testbed.bench.ask",
    "choose": "ndn_infer.testbed.bench.choose",
    "fetch": "ndn_infer.testbed.bench.fetch",
    "decode": "ndn_infer.testbed.bench.decode",
    "device": "ndn_infer.testbed.bench.device",
    "forwarder": "ndn_infer.testbed.bench.forwarder",
    "gateway": "ndn_infer.testbed.bench.gateway",
    "guard": "ndn_infer.testbed.bench.guard",
    "kv": "ndn_infer.testbed.bench.kv",
    "log": "ndn_infer.testbed.bench.log",
    "pipeline": "ndn_infer.testbed.bench.pipeline",
    "readers": "ndn_infer.testbed.bench.readers",
    "record": "ndn_infer.testbed.bench.record",
    "retrieval": "ndn_infer.testbed.bench.retrieval",
    "structured": "ndn_infer.testbed.bench.structured",
    "svs": "ndn_infer.testbed.bench.svs",
    "trace": "ndn_infer.testbed.bench.trace",
    "vllm": "ndn_infer.testbed.bench.vllm_kv",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--runs", type=int, default=3, help="repetitions")
    parser.add_argument("--full", action="store_true", help="also cells that take minutes or much memory")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fetch: smaller objects; kv: fewer lengths; device: one model; gateway: fewer tokens; readers: 20",
    )
    parser.add_argument("--fanout", action="store_true", help="kv: also many readers of one prefix at once")
    parser.add_argument("--layers", action="store_true", help="kv: also layer by layer while KV arrives, slower links")
    parser.add_argument("--accuracy", action="store_true", help="kv: also whether answers stay the same; minutes")
    parser.add_argument("--cubic", type=int, metavar="N", help="forwarder: only ndnget's default, N downloads each")
    parser.add_argument("--long", action="store_true", help="kv: only finding and fetching, up to 16,384 tokens")
    parser.add_argument("--tokens", type=int, nargs="+", metavar="N", help="kv: lengths of prompts")
    parser.add_argument("--megabytes", type=float, metavar="MB", help="fetch: size of the object (100; quick: 20)")
    parser.add_argument("--sweep", action="store_true", help="fetch: also over links with loss and delay")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="fetch, retrieval: only ours")
    parser.add_argument("--forwarder", choices=("ndn-infer", "nfd"), help="pipeline: a node for each stage, with this")
    parser.add_argument("--profile", action="store_true", help="fetch: where the time of our fetching process goes")
    parser.add_argument("--passages", type=int, metavar="N", help="retrieval: an index of N synthetic passages instead")
    parser.add_argument(
        "--resume", action="store_true",
        help="retrieval: index 10,000 real passages (or --passages N), killed and resumed, one file changed; minutes",
    )  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="retrieval: a corpus of your own, with --questions")
    parser.add_argument(
        "--questions", type=Path, metavar="FILE",
        help='retrieval: JSON, a list of {"question": ..., "source": ..., "must_contain": ...}',
    )  # fmt: skip
    parser.add_argument("--trace", type=Path, metavar="FILE", help="trace: requests, one JSON object a line (or .gz)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="kv, trace, vllm: write the plot there, as SVG")


def run(options: argparse.Namespace, config: Config) -> int:
    module = importlib.import_module(BENCHES[options.name])
    with ended_by_signals():
        status: int = module.run(options, config)
    return status
