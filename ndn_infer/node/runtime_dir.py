"""The run-time folder, in which the sockets of this machine's forwarders are.

Owns: making it, and whether it is safe to use. Must not know: what is in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ndn_infer.config import Config, runtime_base
from ndn_infer.errors import StorageError


def make_runtime_dir(config: Config) -> Path:
    """The run-time folder, of this user and closed to others. Raises StorageError when it is somebody else's."""
    directory = config.runtime_dir
    try:
        if directory.parent == runtime_base():  # `mode` is that of the last folder only
            runtime_base().mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"cannot make the run-time folder {directory}: {error.strerror}", hint=_ELSEWHERE) from error
    check_runtime_dir(config)
    return directory


def check_runtime_dir(config: Config) -> None:
    """Raises StorageError when the run-time folder, or the one above it in the temporary folder, belongs to another
    user, is a link, or can be changed by others: whoever owns it decides what answers there."""
    directory = config.runtime_dir
    for path in (runtime_base(), directory) if directory.parent == runtime_base() else (directory,):
        try:
            info = path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageError(f"cannot look at {path}: {error.strerror}", hint=_ELSEWHERE) from error
        if stat.S_ISLNK(info.st_mode):
            raise StorageError(f"the run-time folder {path} is a link", hint=_ELSEWHERE)
        if info.st_uid != os.getuid():
            raise StorageError(f"the run-time folder {path} belongs to another user", hint=_ELSEWHERE)
        if stat.S_IMODE(info.st_mode) & 0o022:
            raise StorageError(f"the run-time folder {path} can be changed by others", hint=f"chmod 700 {path}")


_ELSEWHERE: Final = "choose another folder with XDG_RUNTIME_DIR or --set paths.runtime_dir=DIR"
