"""A Mininet link with delay, loss and bandwidth where the kernel has no netem: a process a link (delay_link.py).

Owns: that process, between two TAP devices with the names that Mininet gives. Runs under Mini-NDN's interpreter. Must
not know: what runs on the nodes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from mininet.link import Link

from ndn_infer.testbed import delay_link
from ndn_infer.testbed.topology import Topology

ROOT: Final = Path(__file__).resolve().parent.parent
STOP_GRACE_S: Final = 5.0


def delayed_links(topology: Topology) -> type[Any]:
    """A link class for Mini-NDN whose links are shaped as the topology says. Making one raises OSError when the kernel
    has no TAP devices either."""

    class DelayedLink(Link):  # type: ignore[misc]
        _process: subprocess.Popen[bytes] | None = None

        def makeIntfPair(  # Mininet's name and arguments
            self, intfname1: str, intfname2: str, _addr1: Any, _addr2: Any, node1: Any, node2: Any, **_: Any
        ) -> None:
            ends = [f"/proc/{node1.pid}/ns/net", f"/proc/{node2.pid}/ns/net", intfname1, f"--far-device={intfname2}"]
            shape = delay_link.shape_options(topology.link_between(node1.name, node2.name))
            command = [sys.executable, "-m", "ndn_infer.testbed.delay_link", *ends, *shape, "--exit-with-parent"]
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdout is not None
            if not self._process.stdout.readline().startswith(b"READY"):
                raise OSError(f"no link between {intfname1} and {intfname2}")

        def delete(self) -> None:
            """The devices go with the process."""
            if self._process is not None:
                self._process.terminate()
                try:
                    self._process.wait(STOP_GRACE_S)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                self._process = None
            super().delete()

    return DelayedLink
