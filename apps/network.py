"""An embedded network: forwarder and producers of this machine as separate processes.

Owns: which processes there are, their sockets and environment. Used by `up` and by `ask` when no network runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ndn_infer.apps.networks import make_runtime_dir
from ndn_infer.apps.processes import Child, start_all, stop_all
from ndn_infer.config import ENVIRONMENT_PREFIX, Config
from ndn_infer.errors import StorageError


@dataclass(slots=True)
class EmbeddedNetwork:
    """`socket` is the forwarder's; `children` the forwarder first, then one process a function."""

    socket: Path
    children: list[Child] = field(default_factory=list)
    _own_directory: Path | None = None

    @property
    def uri(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Forwarder, then producers side by side; rag last, since it embeds its corpus by calls. Raises ChildFailed."""
        forwarder, *producers = self.children
        try:
            await forwarder.start(30.0)
            first = [child for child in producers if child.title != "rag"]
            await start_all(first)
            await start_all([child for child in producers if child.title == "rag"])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Producers first, so that they can withdraw their prefixes."""
        await stop_all(self.children[1:])
        await stop_all(self.children[:1])
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


def embedded(
    config: Config,
    functions: Sequence[str],
    *,
    model: str,
    embedder: str,
    corpus: Path | None,
    corpus_name: str,
    private: bool,
    config_file: Path | None = None,
    settings: Sequence[str] = (),
    verbose: int = 0,
) -> EmbeddedNetwork:
    """Describe a network (nothing starts yet). With `private` it has a socket of its own that nobody else finds."""
    if not (private or config.forwarder.unix_path):
        make_runtime_dir(config)
    socket, directory = private_socket(config) if private else (config.socket_path, None)
    environment = {
        "NDN_CLIENT_TRANSPORT": f"unix://{socket}",
        f"{ENVIRONMENT_PREFIX}FORWARDER_UNIX_PATH": str(socket),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),  # children find everything in the cache
    }
    common = [
        *(["--config", str(config_file)] if config_file else []),
        *(f"--set={text}" for text in settings),
        *["-v"] * verbose,
    ]
    children = [Child("forwarder", ["forwarder", f"--unix={socket}", *common], environment)]
    for function in functions:
        arguments = ["produce", "--functions", function, "--model", model, "--embedder", embedder, *common]
        if function == "rag":
            arguments += ["--corpus", str(corpus), "--corpus-name", corpus_name]
        children.append(Child(function, arguments, environment))
    return EmbeddedNetwork(socket, children, directory)
