"""llama.cpp's own server tests, run unchanged against a gateway: python -m tests.judges.llama_cpp

Owns: getting them (from the source package of llama-cpp-python, into a folder outside this repository), the gateways
that they attach to, and the comparison with what is known to fail, and why (llama_cpp_known.py). Prints one line a
file, and what differs; status 1 where anything does.

The tests name no model, or one of OpenAI's: the gateways know these names (gateway.names). Each file runs against the
gateway that is like the server it would have started: with one model of text, with keys, with one of vectors.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.daemons import gateway, run_network
from tests.judges.llama_cpp_known import KNOWN

VERSION: Final = "0.3.36"
SUITE: Final = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/tools/server/tests"
MODEL: Final = "smollm2-135m-instruct"
EMBEDDER: Final = "all-minilm-l6-v2"
KEY: Final = "sk-this-is-the-secret-key"
_KEYED: Final = ("test_security.py",)
_VECTORS: Final = ("test_embedding.py",)
_NAMES: Final = ("", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "codellama70b", "test", "gpt-4.1", "davinci-002")
_TEMPLATES: Final = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/models/templates"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one test: "passed", "failed" or "skipped"; `why` is the last line of a failure."""

    file: str
    test: str
    how: str
    why: str = ""

    @property
    def reason(self) -> str:
        """Why this test is known to fail; "" for one that is to pass."""
        known = KNOWN.get(self.file, {})
        named = next((why for name, why in known.items() if self.test == name or self.test.startswith(f"{name}[")), "")
        return named or known.get("*", "")


def fetch(work: Path) -> Path:
    """The suite and an environment of its own, in `work`, once."""
    suite = work / SUITE
    if not suite.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python"]
        subprocess.run([*pip, f"llama-cpp-python=={VERSION}", "-d", str(work)], check=True)
        with tarfile.open(work / f"llama_cpp_python-{VERSION}.tar.gz") as archive:
            wanted = [member for member in archive.getmembers() if member.name.startswith((SUITE, _TEMPLATES))]
            archive.extractall(work, wanted, filter="data")
    if not (work / "venv-llama" / "bin" / "pytest").exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv-llama")], check=True)
        python = work / "venv-llama" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", str(suite / "requirements.txt")], check=True)
    return suite


def run_suite(work: Path, files: Sequence[str], port: int) -> list[Outcome]:
    report = work / f"report-{port}.xml"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "DEBUG_EXTERNAL": "1", "PORT": str(port), "PYTHONPATH": ""}
    command = [str(work / "venv-llama" / "bin" / "pytest"), "-q", f"--junitxml={report}", "-p", "no:cacheprovider"]
    subprocess.run(
        [*command, *(f"unit/{file}" for file in files)],
        cwd=work / SUITE, env=environment, stdout=subprocess.DEVNULL, check=False, timeout=3600,
    )  # fmt: skip
    return [_outcome(case) for case in ElementTree.parse(report).iter("testcase")]


def _outcome(case: ElementTree.Element) -> Outcome:
    file = case.attrib["classname"].rpartition(".")[2] + ".py"
    for how, tags in (("failed", ("failure", "error")), ("skipped", ("skipped",))):
        for tag in tags:
            if (found := case.find(tag)) is not None:
                return Outcome(file, case.attrib["name"], how, found.attrib.get("message", "").split("\n")[0][:120])
    return Outcome(file, case.attrib["name"], "passed")


def judge(outcomes: Sequence[Outcome]) -> list[str]:
    """What is not as it is known."""
    found = []
    for one in outcomes:
        if one.how == "failed" and not one.reason:
            found.append(f"{one.file} {one.test} fails: {one.why}")
        if one.how == "passed" and one.reason and not one.reason.startswith("some"):
            found.append(f"{one.file} {one.test} passes, though {one.reason}")
    return found


def table(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["| file | passed | failed, known | failed | skipped |", "|---|---|---|---|---|"]
    for file in sorted({one.file for one in outcomes}):
        mine = [one for one in outcomes if one.file == file]
        how = Counter("known" if one.how == "failed" and one.reason else one.how for one in mine)
        lines.append(f"| {file} | {how['passed']} | {how['known']} | {how['failed']} | {how['skipped']} |")
    return lines


def run(work: Path, cache: Path, only: Sequence[str]) -> list[Outcome]:
    suite = fetch(work)
    files = sorted(path.name for path in (suite / "unit").glob("test_*.py") if not only or path.name in only)
    home = work / "home"
    home.mkdir(exist_ok=True)
    keys = home / "keys"
    keys.write_text(f"{KEY}\n")
    keys.chmod(0o600)
    texts = ",".join(f"{name}={MODEL}" for name in _NAMES)
    vectors = f"={EMBEDDER},text-embedding-3-small={EMBEDDER}"
    groups: tuple[tuple[list[str], list[str], str], ...] = (
        ([file for file in files if file in _KEYED], ["--api-key-file", str(keys)], texts),
        ([file for file in files if file in _VECTORS], [], vectors),
        ([file for file in files if file not in _KEYED + _VECTORS], [], texts),
    )
    outcomes: list[Outcome] = []
    with run_network(home, cache, "--functions", "tokenize,prefill,decode,embed") as network:
        for chosen, options, names in groups:
            if not chosen:
                continue
            with gateway(network, *options, "--set", f"gateway.names={names}") as (url, _):
                outcomes += run_suite(work, chosen, int(url.removesuffix("/v1").rpartition(":")[2]))
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.judges.llama_cpp", description=__doc__)
    parser.add_argument("files", nargs="*", help="test files; without any all are run")
    parser.add_argument("--work", type=Path, required=True, help="folder for the suite and its environment")
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared models")
    parser.add_argument("--verbose", action="store_true", help="every test that did not pass, and why")
    options = parser.parse_args()
    outcomes = run(options.work.resolve(), options.cache.resolve(), options.files)
    print("\n".join(table(outcomes)))
    if options.verbose:
        for one in outcomes:
            if one.how != "passed":
                print(f"{one.file} {one.test}: {one.how}: {one.why} ({one.reason or 'new'})")
    differences = judge(outcomes)
    print("\n".join(differences) if differences else "as known")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
