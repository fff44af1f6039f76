"""Entering a network namespace by its name, or by the path of a file that stands for it.

Owns: the system call, for the thread that makes it. Must not know: what is done there.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

NETNS_DIRECTORY: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000


def enter_namespace(name: str) -> None:
    """The calling thread enters the network namespace of this name (as `ip netns` has it, or a path like
    /proc/1234/ns/net), and stays there. Raises OSError."""
    descriptor = os.open(NETNS_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), name)
    finally:
        os.close(descriptor)
