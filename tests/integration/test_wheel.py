"""The built wheel in an empty environment: a working command, schemas inside, no stray top-level packages, no torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, check=False, timeout=280, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("ndn_infer-*.whl"))


def test_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ndn_infer"}
    for needed in (
        "schemas/ndn-infer.lvs",
        "gateway/page/static/main.js",
        "apps/ask.py",
        "testbed/topologies/three_nodes.conf",
        "py.typed",
    ):
        assert f"ndn_infer/{needed}" in names


def test_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    assert run(sys.executable, "-m", "venv", environment).returncode == 0
    python, command = environment / "bin" / "python", environment / "bin" / "ndn-infer"
    done = run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    assert done.returncode == 0, done.stderr
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    elsewhere = {"cwd": tmp_path, "env": home}
    assert "ndn-infer 0" in run(command, "--version", **elsewhere).stdout
    assert "KV block" in run(command, "names", **elsewhere).stdout
    assert run(command, "keys", "init", **elsewhere).returncode == 0
    signer = run(command, "names", "/ndn-infer/local/catalog/model/x/32=metadata/v=1/seg=0", **elsewhere)
    assert "operator" in signer.stdout  # the trust schema is inside
    imports = "import ndn_infer.client, importlib.util as u; print([u.find_spec(n) for n in ('torch','apps','tests')])"
    done = run(python, "-c", imports, **elsewhere)
    assert done.stdout.strip() == "[None, None, None]", done.stderr
    asked = run(command, "ask", "hello", **elsewhere)
    assert asked.returncode == 5 and "pip install" in asked.stderr and "Traceback" not in asked.stderr
