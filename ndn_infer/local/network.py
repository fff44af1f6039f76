"""An embedded network: forwarder and producers of this machine as separate processes.

Owns: which processes there are, their sockets and environment. Must not know: what they compute. Used by `up`, and by
`ask` when no network runs or a folder is to be served.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer.addresses import split_host_port
from ndn_infer.config import ENVIRONMENT_PREFIX, Config
from ndn_infer.errors import StorageError
from ndn_infer.functions import registry
from ndn_infer.local.processes import Child, start_all, stop_all
from ndn_infer.node.runtime_dir import make_runtime_dir

NO_ALIAS: Final = "-"
"""As the name of a corpus: it gets none, and callers know its digest."""


@dataclass(slots=True)
class EmbeddedNetwork:
    """`uri` is the forwarder's; `children` that forwarder first, where it is ours, then the producers."""

    uri: str
    children: list[Child] = field(default_factory=list)
    _own_directory: Path | None = None

    @property
    def producers(self) -> list[Child]:
        return [child for child in self.children if child.title != "forwarder"]

    async def start(self) -> None:
        """Forwarder, then producers side by side; those that call others after these. Raises ChildFailed."""
        try:
            for child in self.children[:1]:
                if child.title == "forwarder":
                    await child.start(30.0)
            for wave in registry.waves([child.title.split(",") for child in self.producers]):
                await start_all([child for child in self.producers if child.title.split(",") in wave])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Producers first, so that they can withdraw their prefixes."""
        await stop_all(self.producers)
        await stop_all(self.children)
        if self._own_directory is not None:
            shutil.rmtree(self._own_directory, ignore_errors=True)


def private_socket(config: Config) -> tuple[Path, Path]:
    """A socket path of our own in a fresh directory (both returned): an embedded network for one question."""
    runtime = make_runtime_dir(config)
    try:
        directory = Path(tempfile.mkdtemp(prefix="ask-", dir=runtime))
    except OSError as error:
        raise StorageError(f"cannot make a socket directory in {runtime}: {error.strerror}") from error
    return directory / "forwarder.sock", directory


@dataclass(frozen=True, slots=True)
class ServedParts:
    """What the producers of an embedded network serve: `functions` of `models` as 'produce --model' takes them,
    `corpus` under the alias `corpus_name`."""

    functions: Sequence[str]
    models: Sequence[str]
    embedder: str
    corpus: Path | None = None
    corpus_name: str = NO_ALIAS
    corpus_domain: str = ""
    """The tenant domain whose members alone are served; "": everybody."""


@dataclass(frozen=True, slots=True)
class CommonFlags:
    """Flags that every process of the network is given."""

    config_file: Path | None = None
    settings: Sequence[str] = ()
    verbose: int = 0

    def arguments(self) -> list[str]:
        file = ["--config", str(self.config_file)] if self.config_file else []
        return [*file, *(f"--set={text}" for text in self.settings), *["-v"] * self.verbose]


def embedded(config: Config, served: ServedParts, flags: CommonFlags, *, private: bool) -> EmbeddedNetwork:
    """Describe a network (nothing starts yet). With `private` it has a socket of its own that nobody else finds."""
    if not (private or config.forwarder.unix_path):
        make_runtime_dir(config)
    socket, directory = private_socket(config) if private else (config.socket_path, None)
    uri = f"unix://{socket}"
    children = [Child("forwarder", ["forwarder", f"--unix={socket}", *flags.arguments()], _environment(uri))]
    children += _producers(served, uri, flags)
    _give_metrics_ports(children, "" if private else config.metrics.listen)
    return EmbeddedNetwork(uri, children, directory)


def helpers(served: ServedParts, flags: CommonFlags, uri: str) -> EmbeddedNetwork:
    """Producers of this machine that join the network at `uri` for a while."""
    children = _producers(served, uri, flags)
    _give_metrics_ports(children, "")
    return EmbeddedNetwork(uri, children)


def _give_metrics_ports(children: Sequence[Child], listen: str) -> None:
    """One port each, the first one's and those after it; none where `listen` is empty, whatever they inherit."""
    host, port = split_host_port(listen) if listen else ("", 0)
    shown = f"[{host}]" if ":" in host else host
    for index, child in enumerate(children):
        where = f"{shown}:{port + index if port else 0}" if listen else ""
        child.arguments = [*child.arguments, f"--set=metrics.listen={where}"]


def _environment(uri: str) -> dict[str, str]:
    local = {f"{ENVIRONMENT_PREFIX}FORWARDER_UNIX_PATH": uri.removeprefix("unix://")} if uri.startswith("unix:") else {}
    return {
        "NDN_CLIENT_TRANSPORT": uri,
        **local,
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),  # children find everything in the cache
    }


def _producers(served: ServedParts, uri: str, flags: CommonFlags) -> list[Child]:
    children = []
    for together in registry.processes(served.functions):
        title = ",".join(together)
        models = (f"--model={model}" for model in served.models)
        arguments = ["produce", "--functions", title, *models, *flags.arguments(), f"--embedder={served.embedder}"]
        if "corpus" in registry.needs(together):
            arguments += [f"--corpus={served.corpus}", f"--corpus-name={served.corpus_name}"]
            arguments += [f"--corpus-domain={served.corpus_domain}"] if served.corpus_domain else []
        children.append(Child(title, arguments, _environment(uri)))
    return children
