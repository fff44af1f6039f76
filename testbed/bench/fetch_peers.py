"""Peers of `bench fetch`: ndn-tools and python-ndn at a forwarder, nginx and Redis on this machine.

Owns: finding and starting them privately (own configuration, socket and port; in the foreground, stopped by pid), one
download through each. Must not know: what is compared with what.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.ndn.name import Name
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import MB, Content, Sample, WrongBytes, free_port, run_client
from ndn_infer.testbed.bench.fetch_client import CHUNK_BYTES, Redis
from ndn_infer.testbed.bench.fetch_ours import Publisher
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.testbed.bench.ndnget import download, served, tools_environment

PACKAGES: Final = {
    "ndnget": "ndn-tools (named-data.net)",
    "nfd": "nfd (named-data.net)",
    "ndnd": "ndnd (github.com/named-data/ndnd)",
    "nginx": "nginx",
    "redis-server": "redis-server",
}
"""Which package brings a peer, for the line about its absence."""
FORMER_NAMES: Final = {"ndnget": "ndncatchunks", "ndnserve": "ndnputchunks"}
NDNGET_SETTINGS: Final = {
    **{f"fixed{size}": ("-p", "fixed", "-s", str(size)) for size in (32, 64, 128)},
    "cubic": ("-p", "cubic"),
}
NDNGET_S: Final = 60.0
READY_S: Final = 30.0
POLL_S: Final = 0.02
_COUNTS: Final = {
    "timeouts": re.compile(r"Timeouts: (\d+)"),
    "retransmitted": re.compile(r"Retransmitted segments: (\d+)"),
    "marks": re.compile(r"Congestion marks: (\d+)"),
}
NDND_CONF: Final = """core: {{ log_level: ERROR }}
faces:
  udp: {{ enabled_unicast: false, enabled_multicast: false }}
  tcp: {{ enabled: false }}
  unix: {{ enabled: true, socket_path: {path} }}
  websocket: {{ enabled: false }}
fw: {{ threads: {threads} }}
tables: {{ content_store: {{ capacity: {packets}, admit: {admit}, serve: {admit} }} }}
"""
NGINX_CONF: Final = """{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def find(program: str) -> str | None:
    """The program's path, under its newer or its older name."""
    return shutil.which(program) or shutil.which(FORMER_NAMES.get(program, program))


def absences() -> list[str]:
    """One line for every peer that is not on PATH."""
    return [f"absent: {program}; package {brings}" for program, brings in PACKAGES.items() if find(program) is None]


@contextmanager
def ndnd(directory: Path, packets: int) -> Iterator[Target]:
    """NDNd with a Content Store of so many packets, 0 for none. Raises CannotMeasure."""
    path, conf = directory / "ndnd.sock", directory / "ndnd.yml"
    admit = "true" if packets else "false"
    conf.write_text(NDND_CONF.format(path=path, threads=os.cpu_count(), packets=max(1, packets), admit=admit))
    command, environment = [str(find("ndnd")), "fw", "run", str(conf)], {**os.environ, "HOME": str(directory)}
    with background(command, output=subprocess.DEVNULL, env=environment, stderr=subprocess.DEVNULL) as process:
        _until_it_answers(process, str(path), "ndnd")
        yield Target("NDNd", str(path), str(directory), process.pid)


# ---------------------------------------------------------------- ndn-tools


def ndnget(target: Target, name: Name, setting: Sequence[str], *, timeout_s: float = NDNGET_S) -> Sample:
    """One download to nowhere; figures are its own summary's. Raises CannotMeasure when it fails or is not done in
    time."""
    speed, text = download(_get(name, setting), tools_environment(target), timeout_s=timeout_s)
    counts = {key: int(found[1]) for key, pattern in _COUNTS.items() if (found := pattern.search(text))}
    return {"mb_s": speed * 1e9 / 8 / MB, **counts}


def _get(name: Name, setting: Sequence[str]) -> list[str]:
    return [str(find("ndnget")), *setting, ndn.to_uri(name)]


def ndnget_bytes_agree(target: Target, name: Name, content: Content, folder: Path) -> None:
    """One download that is kept and compared. Raises WrongBytes."""
    kept = folder / "ndnget.out"
    command = [*_get(name, NDNGET_SETTINGS["fixed32"]), "-q"]
    with (
        kept.open("wb") as output,
        background(command, env=target.environment(), output=output.fileno(), stderr=subprocess.DEVNULL) as process,
    ):
        deadline = time.monotonic() + NDNGET_S
        while process.poll() is None and kept.stat().st_size < content.size and time.monotonic() < deadline:
            time.sleep(POLL_S)
    same = kept.read_bytes() == content.path.read_bytes()
    kept.unlink()
    if not same:
        raise WrongBytes(f"ndnget at {target.title} returned other bytes than were published")


@contextmanager
def ndnserve(target: Target, name: Name, content: Content) -> Iterator[None]:
    """Their producer with our segment size; it signs everything before it answers. Raises CannotMeasure."""
    command = [str(find("ndnserve")), "-q", "-s", str(CHUNK_BYTES), "-f", "3600000", ndn.to_uri(name)]
    with served(target, command, content.path):
        yield


# ---------------------------------------------------------------- python-ndn


def python_ndn(target: Target, publisher: Publisher, what: str, label: str, content: Content) -> Sample:
    """`what` is window or segments. Raises CannotMeasure, WrongBytes."""
    options: dict[str, Any] = {"path": target.path, "name": ndn.encode_name(publisher.versioned[label]).hex()}
    if what == "window":
        options["segments"] = publisher.segments[label]
    return content.judge(f"python-ndn at {target.title}", run_client("fetch_python_ndn", what, options))


# ---------------------------------------------------------------- HTTP and Redis


@contextmanager
def nginx(folder: Path, content: Content) -> Iterator[int]:
    """nginx before the content's folder; its port. Raises CannotMeasure."""
    port, conf = free_port(), folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    conf.write_text(NGINX_CONF.format(user=user, folder=folder, port=port, root=content.path.parent))
    log = folder / "nginx.log"
    command = [str(find("nginx")), "-p", str(folder), "-e", str(log), "-c", str(conf)]
    with background(command, output=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _until_it_answers(process, port, f"nginx: see {log}")
        yield port


def http_get(port: int, content: Content, *, verify: bool) -> Sample:
    options = {"port": port, "path": f"/{content.path.name}", "size": content.size, "verify": verify}
    return content.judge("HTTP", run_client("fetch_client", "http", options))


@contextmanager
def redis_server(folder: Path, content: Content) -> Iterator[tuple[str, int]]:
    """Redis with the content as one value and in values of a segment's size; its socket and its port."""
    path, port = str(folder / "redis.sock"), free_port()
    command = [
        str(find("redis-server")), "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", "",
        "--appendonly", "no", "--dir", str(folder), "--loglevel", "warning",
    ]  # fmt: skip
    with background(command, output=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _until_it_answers(process, path, "redis-server")
        redis = Redis(path)
        view = memoryview(content.path.read_bytes())
        redis.set(b"whole", view)
        for number in range(-(-content.size // CHUNK_BYTES)):
            redis.set(b"c%d" % number, view[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES])
        redis.close()
        yield path, port


def redis_get(address: str | int, what: str, content: Content, *, verify: bool) -> Sample:
    """`what` is get or mget."""
    options = {"address": address, "size": content.size, "verify": verify}
    return content.judge("Redis", run_client("fetch_client", what, options))


def _until_it_answers(process: subprocess.Popen[str], address: str | int, who: str) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            Redis(address).close()  # only connects
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"it did not start: {who}") from None
        time.sleep(POLL_S)
