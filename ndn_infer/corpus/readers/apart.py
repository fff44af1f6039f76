"""A process that reads files of large formats, within bounds on memory and time.

Owns: that process, its limits, and the lines between it and us. Must not know: formats. What a hostile file does to a
parser (endless loops, memory, a crash of native code) ends that process and costs one file.

Asked by a line on standard input (a path as JSON); answers with a line of JSON: the sections, or what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ndn_infer.corpus.markup import Block, Section
from ndn_infer.corpus.readers import MAX_EXPANDED, UnreadableFile, read_sections
from ndn_infer.errors import EngineUnavailable

FILE_S: Final = 120.0
"""Seconds for one file."""
MEMORY: Final = 2 << 30
_MAX_ANSWER: Final = 8 * MAX_EXPANDED


class ReadingProcess:
    """Starts with the first file, ends with the block that it is used in."""

    def __init__(self, *, file_s: float = FILE_S) -> None:
        self._file_s = file_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._end()

    def read(self, path: Path) -> list[Section]:
        """The sections of a file. Raises UnreadableFile, EngineUnavailable."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(os.fsencode(path).decode("latin-1")).encode() + b"\n")
            process.stdin.flush()
            said = json.loads(self._line(process))
        except (OSError, ValueError, TimeoutError) as error:
            self._end()
            slow = isinstance(error, TimeoutError)
            raise UnreadableFile(
                f"reading it took more than {self._file_s:.0f} s" if slow else "its reader broke down"
            ) from error
        if "missing" in said:
            raise EngineUnavailable(said["missing"], hint="pip install 'ndn-infer[rag]'")
        if "error" in said:
            raise UnreadableFile(said["error"])
        return sections_from(said["sections"])

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        until, parts, size = time.monotonic() + self._file_s, [], 0
        while True:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError
            part = os.read(process.stdout.fileno(), 1 << 20)
            parts.append(part)
            size += len(part)
            if not part or size > _MAX_ANSWER:
                raise ValueError("no answer")
            if part.endswith(b"\n"):
                return b"".join(parts)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()


def as_json(sections: list[Section]) -> list[Any]:
    """Sections as JSON values; sections_from reads them."""
    return [
        [list(section.path), section.page, [[b.text, b.fence, b.row, b.lines] for b in section.blocks]]
        for section in sections
    ]


def sections_from(values: list[Any]) -> list[Section]:
    return [
        Section(tuple(path), tuple(Block(text, fence, row, lines) for text, fence, row, lines in blocks), page)
        for path, page, blocks in values
    ]


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin.buffer:
        path = Path(os.fsdecode(json.loads(line).encode("latin-1")))
        try:
            answer: dict[str, Any] = {"sections": as_json(read_sections(path.read_bytes(), path.suffix.lower()))}
        except EngineUnavailable as error:
            answer = {"missing": str(error)}
        except OSError as error:
            answer = {"error": f"cannot be read ({error.strerror})"}
        except UnreadableFile as error:
            answer = {"error": str(error)}
        sys.stdout.buffer.write(json.dumps(answer).encode("utf-8", "surrogatepass") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
