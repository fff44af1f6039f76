"""A process beside ours that makes items and scores answers with code of others: a package's generators, patterns.

Owns: its jobs, one JSON document in and one out, and what it may take (time, memory). Must not know: the network, who
made a suite. `python -m ndn_infer.evidence.live.worker < JOB > RESULT`; exit status 2 with words on standard error for
a job that cannot be done.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import resource
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ndn_infer.evidence.scorers import answer_part

PACKAGES: Final = {"reasoning-gym": "reasoning_gym"}
"""Packages that may make items, and the module of each: a suite names no other code."""
MEMORY_BYTES: Final = 4 << 30
CPU_S: Final = 300


class JobRefused(Exception):
    pass


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    job = json.load(sys.stdin)
    try:
        found = JOBS[job["job"]](job)
    except JobRefused as error:
        sys.stderr.write(f"{error}\n")
        return 2
    json.dump(found, sys.stdout)
    return 0


def generate(job: Mapping[str, Any]) -> dict[str, Any]:
    """Items of a generator's data set, and what identifies the generator here."""
    identity = identify(job)
    made = _dataset(job)
    items = [{"id": str(place), "prompt": made[place]["question"], "targets": [_text(made[place]["answer"])]}
             for place in range(job["count"])]  # fmt: skip
    return {**identity, "items": items}


def identify(job: Mapping[str, Any]) -> dict[str, str]:
    """Version and digest of the installed package: SHA-256 over its files in the order of their names, of each the
    name, a line feed, its SHA-256 in hex and a line feed; without caches and the installer's own notes."""
    try:
        installed = metadata.distribution(job["package"])
    except metadata.PackageNotFoundError:
        raise JobRefused(f"package {job['package']} is not installed") from None
    module = PACKAGES[job["package"]]
    whole = hashlib.sha256()
    for path in sorted(installed.files or (), key=str):
        if path.parts[0] == module and "__pycache__" not in path.parts:
            digest = hashlib.sha256(Path(str(path.locate())).read_bytes()).hexdigest()
            whole.update(f"{path}\n{digest}\n".encode())
    return {"version": installed.version, "files": whole.hexdigest()}


def score(job: Mapping[str, Any]) -> dict[str, Any]:
    """Values of [place, text] by the package's own scorer; those of what it cannot read are 0."""
    made = _dataset(job)
    return {"values": [_value(made, place, answer_part(text)) for place, text in job["answers"]]}


def match(job: Mapping[str, Any]) -> dict[str, Any]:
    """Values of [patterns, text]: 1 where one of the patterns is found."""
    flags = 0 if job["case"] else re.IGNORECASE
    try:
        patterns = {one: re.compile(one, flags) for found, _ in job["answers"] for one in found}
    except (re.error, RecursionError, OverflowError) as error:
        raise JobRefused(f"a pattern of the suite is none: {error}") from None
    return {"values": [float(any(patterns[one].search(text) for one in found)) for found, text in job["answers"]]}


def _dataset(job: Mapping[str, Any]) -> Any:
    """Whatever other names a suite gives stay names: a data set is looked up, never imported."""
    module = importlib.import_module(PACKAGES[job["package"]])
    try:
        return module.create_dataset(job["dataset"], seed=job["seed"], size=job["count"], **job["config"])
    except Exception as error:  # whatever a package of others raises
        raise JobRefused(f"{job['package']} makes no {job['dataset']}: {error}"[:500]) from None


def _value(made: Any, place: int, answer: str) -> float:
    try:
        return min(1.0, max(0.0, float(made.score_answer(answer, made[place]))))
    except Exception:  # whatever a package of others raises about a model's text
        return 0.0


def _text(answer: object) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, sort_keys=True, default=str)


JOBS: Final = {"generate": generate, "identify": identify, "score": score, "match": match}

if __name__ == "__main__":
    sys.exit(main())
