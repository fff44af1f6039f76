"""What `bench readers` and `bench pipeline` are made of: the server-sent events of the peer, the cut into stages."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from ndn_infer.errors import UsageError
from ndn_infer.testbed.bench import sse
from ndn_infer.testbed.bench.pipeline import cut
from ndn_infer.testbed.bench.readers import EDGES, spread

MODULE = "ndn_infer.testbed.bench.sse"


def test_every_reader_gets_every_token_in_a_connection_of_its_own() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", MODULE, "serve", str(port), "7", "1", "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        assert server.stdout.readline() == f"READY sse {port}\n"
        read = [sys.executable, "-m", MODULE, "read", "127.0.0.1", str(port), "3"]
        done = subprocess.run(read, capture_output=True, text=True, timeout=60, check=True)
        server.stdin.close()
    assert json.loads(done.stdout) == [7, 7, 7]
    assert server.returncode == 0


def test_an_event_is_what_clients_of_that_protocol_read() -> None:
    event = sse.chunk(3)
    assert event.startswith(b"data: {") and event.endswith(b"}\n\n")
    document = json.loads(event.removeprefix(b"data: "))
    assert document["object"] == "chat.completion.chunk" and document["choices"][0]["delta"]["content"]


def test_readers_are_spread_over_the_edges() -> None:
    assert spread(100) == [20] * 5
    assert spread(7) == [2, 2, 1, 1, 1] and len(EDGES) == 5


@pytest.mark.parametrize(
    ("layers", "stages", "parts"),
    [(30, 3, [(0, 9), (10, 19), (20, 29)]), (5, 3, [(0, 1), (2, 2), (3, 4)]), (4, 1, [(0, 3)])],
)
def test_a_model_is_cut_as_evenly_as_can_be(layers: int, stages: int, parts: list[tuple[int, int]]) -> None:
    assert cut(layers, stages) == parts


def test_too_few_layers_for_the_stages() -> None:
    with pytest.raises(UsageError, match="2 layers"):
        cut(2, 3)
