"""vLLM instances over a network of their own: a forwarder, a relay that can do harm, processes of vLLM's own Python.

Owns: starting them side by side, talking to them, their end; the model that they compute. VLLM_PYTHON is the Python
that has vLLM and this package.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent.parent
NET = "/vllm-test"
ENGINE = {
    "dtype": "bfloat16", "max_model_len": 2048, "max_num_seqs": 8, "max_num_batched_tokens": 512, "seed": 0,
    "enforce_eager": True, "disable_log_stats": False, "num_gpu_blocks_override": 64,
    "distributed_executor_backend": "uni",
}  # fmt: skip
"""64 blocks of 128 tokens: eight long prompts do not fit, and one of them is preempted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds`: the token that was nearly chosen in each place, and its log probability."""

    ids: list[int]
    logprobs: list[float]
    seconds: list[tuple[int, float]]
    cached: int

    @property
    def bits(self) -> tuple[list[int], list[float]]:
        return self.ids, self.logprobs


class Process:
    """A child that takes lines and prints lines."""

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        with log.open("w") as errors:
            self._child = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, **environment},
            )  # fmt: skip
        self._log = log

    def line(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, f"it ended:\n{self._log.read_text()[-3000:]}"
        return line

    def tell(self, text: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(text + "\n")
        self._child.stdin.flush()

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        if self._child.poll() is None:
            assert self._child.stdin is not None
            self._child.stdin.close()
            try:
                self._child.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


class Instance(Process):
    """One vLLM."""

    def ready(self) -> None:
        assert json.loads(self.line()) == {"ready": True}

    def _do(self, **command: Any) -> dict[str, Any]:
        self.tell(json.dumps(command))
        return json.loads(self.line())

    def ask(self, *prompts: list[int], tokens: int = 8, salt: str = "") -> list[Answer]:
        """All at once."""
        found = self._do(do="generate", prompts=prompts, tokens=tokens, salts=[salt] * len(prompts))
        return [Answer(**answer) for answer in found["answers"]]

    def begin(self, prompt: list[int]) -> None:
        """Ask, and do not wait; `end` does."""
        self.tell(json.dumps({"do": "generate", "prompts": [prompt], "tokens": 8}))

    def end(self) -> Answer:
        return Answer(**json.loads(self.line())["answers"][0])

    def one_by_one(self, *prompts: list[int], tokens: int = 8) -> list[Answer]:
        return [self.ask(prompt, tokens=tokens)[0] for prompt in prompts]

    def counts(self) -> dict[str, float]:
        return self._do(do="counts")["counts"]

    def count(self, name: str) -> float:
        return self.counts().get(f"vllm:{name}", 0.0)


@dataclass
class World:
    """Instances by name; a world on a forwarder that was there has no `forwarder` and no `relay`."""

    folder: Path
    model: Path
    forwarder: Process | None = None
    relay: Process | None = None
    engine: dict[str, Any] = field(default_factory=dict)
    """Options of vLLM, over ENGINE."""
    instances: dict[str, Instance] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(16))

    def settings(self, node: str, socket: str = "forwarder", data: str = "data") -> list[str]:
        return [
            f"network.net={NET}", "network.site=home", f"network.node={node}", f"paths.data_dir={self.folder}/{data}",
            f"network.transport=unix://{self.folder}/{socket}.sock",
        ]  # fmt: skip

    def prompt(self, tokens: int) -> list[int]:
        """Never seen before."""
        return self.random.choices(range(5, 40000), k=tokens)

    def prompts(self, count: int) -> list[list[int]]:
        """Of 200 to 1,900 tokens, every other one with half of the one before."""
        found: list[list[int]] = []
        for number in range(count):
            size = 200 + number * 1700 // (count - 1)
            head = found[-1][: size // 2] if number % 2 else []
            found.append(head + self.prompt(size - len(head)))
        return found

    def harm(self, kind: str) -> tuple[int, int]:
        """From now on what the relay passes to `b` is harmed so; how many packets were, since the last call, and KV
        blocks that these belong to."""
        assert self.relay is not None
        self.relay.tell(kind)
        packets, blocks = json.loads(self.relay.line())
        return packets, blocks

    def recorded(self, way: str, after: int = 0) -> bytes:
        """Everything that `b` said ("up") or was sent ("down") so far, without the first bytes."""
        self.harm("none")
        return (self.folder / f"relay.record.{way}").read_bytes()[after:]

    def start(
        self, name: str, *, socket: str = "forwarder", data: str = "data", more: Sequence[str] = (), **extra: Any
    ) -> Instance:
        """`more`: options of ndn-infer; `extra`: of the connector."""
        engine: dict[str, Any] = {"model": str(self.model), **ENGINE, **self.engine}
        if name != "base":
            engine["kv_transfer_config"] = {
                "kv_connector": "NamedKVConnector", "kv_connector_module_path": "ndn_infer.vllm",
                "kv_role": "kv_both", "kv_load_failure_policy": "recompute",
                "kv_connector_extra_config": {"set": [*self.settings(name, socket, data), *more], **extra},
            }  # fmt: skip
        self.instances[name] = Instance(
            [os.environ["VLLM_PYTHON"], "-m", "tests.vllm.instance", json.dumps(engine)], self.folder / f"{name}.log",
            HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_CPU_KVCACHE_SPACE="1",
            VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="WARNING", PYTHONPATH=str(ROOT),
        )  # fmt: skip
        return self.instances[name]


@contextmanager
def world_on(folder: Path, model: Path, socket: Path) -> Iterator[World]:
    """Instances `a` and `b` on a forwarder that runs already; no relay."""
    (folder / "forwarder.sock").symlink_to(socket)
    made = World(folder, model)
    made.start("a")
    made.start("b", peers=[f"{NET}/home/a/vllm"])
    with running(made):
        yield made


@contextmanager
def running(made: World) -> Iterator[None]:
    """Until the instances are ready; in the end they end."""
    with ExitStack() as ending:
        for instance in made.instances.values():
            ending.callback(instance.close)
        for instance in made.instances.values():
            instance.ready()
        yield


@contextmanager
def links(folder: Path, model: Path, engine: dict[str, Any] | None = None) -> Iterator[World]:
    """A forwarder and a relay, without instances."""
    ours = [sys.executable, "-m"]
    settings = ["--set", f"paths.data_dir={folder}/data", "--set", f"network.net={NET}"]
    with ExitStack() as ending:
        forwarder = Process(
            [*ours, "ndn_infer", "forwarder", "--unix", f"{folder}/forwarder.sock", "--exit-with-parent", *settings],
            folder / "forwarder.log",
        )  # fmt: skip
        ending.callback(forwarder.close)
        forwarder.line()
        relay = Process(
            [*ours, "tests.vllm.relay", f"{folder}/relay.sock", f"{folder}/forwarder.sock", f"{folder}/relay.record"],
            folder / "relay.log",
        )  # fmt: skip
        ending.callback(relay.close)
        relay.line()
        yield World(folder, model, forwarder, relay, engine or {})


@contextmanager
def world(folder: Path, model: Path) -> Iterator[World]:
    """`base` has no connector; `a` saves; `b` (behind the relay) and `sync` reuse. A step of `sync` waits for its
    search, so that who is found is in the same step as without a network."""
    with links(folder, model) as made:
        peers = [f"{NET}/home/a/vllm"]
        made.start("base")
        made.start("a")
        made.start("b", socket="relay", peers=peers, load_timeout_s=5)
        made.start("sync", peers=peers, load="sync", wait_ms=1000, lookup_ms=900)
        with running(made):
            yield made


def first_layers(model: Path, folder: Path, layers: int = 6) -> Path:
    """A model of the first layers alone: real KV, in a fifth of the time."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (folder / name).symlink_to(model / name)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}), "utf-8")
    weights = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if _layer_of(name) < layers}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _layer_of(tensor: str) -> int:
    found = re.search(r"\.layers\.(\d+)\.", tensor)
    return int(found[1]) if found else -1


def wait_for(true: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def published(instance: Instance) -> bool:
    """Whether everything that was copied for publishing is out. Counters move with steps: a short prompt makes one."""
    instance.ask([7, 8, 9], tokens=1)
    counts = instance.counts()
    saved = counts.get("vllm:named_kv_blocks_saved", 0)
    return saved == counts.get("vllm:named_kv_kv_blocks_published", 0) > 0
