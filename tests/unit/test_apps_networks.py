"""Networks of one machine: names of their own, several homes, bundles of others, whose run-time folder it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ndn_infer import config as configuration
from ndn_infer.cli import main
from ndn_infer.config import Config
from ndn_infer.errors import StorageError
from ndn_infer.node import networks, runtime_dir
from ndn_infer.node.keys import ensure_keys

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """One command in a home; exit status and everything that it printed."""

    def command(home: Path, *arguments: object) -> tuple[int, str]:
        status = main([*map(str, arguments), "--set", f"paths.data_dir={home}"])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return command


def in_use(home: Path) -> Config:
    return networks.settle(configuration.load(file=Path(os.devnull), flags=[f"paths.data_dir={home}"]))


def test_networks_that_nobody_named_differ_and_last(tmp_path: Path) -> None:
    one, two = in_use(tmp_path / "a"), in_use(tmp_path / "b")
    assert one.network.net != two.network.net and one.network.net.startswith("/ndn-infer/local-")
    assert in_use(tmp_path / "a").network == one.network
    assert one.socket_path != two.socket_path


def test_keys_that_were_made_under_the_former_name_stay_in_use(tmp_path: Path) -> None:
    ensure_keys(configuration.load(file=Path(os.devnull), flags=[f"paths.data_dir={tmp_path}"]), ())
    assert in_use(tmp_path).network.net == "/ndn-infer/local"
    assert not (tmp_path / "network.toml").exists()


def test_where_nothing_can_be_written_there_is_a_name_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert in_use(tmp_path / "file" / "below").network.net.startswith("/ndn-infer/local-")


def test_who_tried_alone_imports_a_labs_bundle_and_goes_back(tmp_path: Path, run: Run) -> None:
    operator, laptop = tmp_path / "operator", tmp_path / "laptop"
    assert run(laptop, "keys", "init")[0] == 0
    own = in_use(laptop).network
    assert run(operator, "keys", "init", "--net", "/lab", "--site", "hq", "--node", "desk")[0] == 0
    issue = ("keys", "issue", "--site", "gpu", "--node", "g1", "--roles", "user,decode", "--out", tmp_path / "b")
    assert run(operator, *issue)[0] == 0
    status, said = run(laptop, "keys", "import", tmp_path / "b")
    assert status == 0 and "site gpu, node g1" in said and "decode, user" in said
    assert in_use(laptop).network.net == "/lab" and in_use(laptop).network.node == "g1"
    assert "/lab/gpu/g1/decode" in run(laptop, "keys", "list")[1]
    status, said = run(laptop, "keys", "use", own.net)
    assert status == 0 and in_use(laptop).network == own
    assert "also on this machine: /lab" in run(laptop, "keys", "list")[1]
    status, said = run(laptop, "keys", "use", "/laab")
    assert status == 2 and "/lab, " in said


def test_another_network_of_the_same_name_is_told_apart_in_words(tmp_path: Path, run: Run) -> None:
    for home in ("one", "two"):
        assert run(tmp_path / home, "keys", "init", "--net", "/lab")[0] == 0
    run(tmp_path / "one", "keys", "issue", "--site", "s", "--node", "n", "--out", tmp_path / "b")
    status, said = run(tmp_path / "two", "keys", "import", tmp_path / "b")
    assert status == 2 and "another trust anchor" in said and "--set paths.data_dir=DIR" in said


def test_roles_that_look_misspelt_are_refused_with_the_list(tmp_path: Path, run: Run) -> None:
    issue = ("keys", "issue", "--site", "s", "--node", "n", "--out", tmp_path / "b", "--roles")
    for wrong, right in {"prefil": "prefill", "decoder": "decode", "Tokenize": "tokenize", "users": "user"}.items():
        status, said = run(tmp_path, *issue, f"rag,{wrong}")
        assert status == 2 and f"did you mean '{right}'" in said and "roles are tokenize" in said
    status, said = run(tmp_path, *issue, "wordcount")
    assert status == 0 and "a service of your own" in said


def test_a_bundle_that_is_not_there_asks_for_one(tmp_path: Path, run: Run) -> None:
    status, said = run(tmp_path, "keys", "import", tmp_path / "none")
    assert status == 7 and "No such file" in said and "keys issue --out" in said and "free" not in said


def test_a_run_time_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = in_use(tmp_path / "data")
    base = tmp_path / f"ndn-infer-{os.getuid()}"
    assert runtime_dir.make_runtime_dir(config).parent == base and base.stat().st_mode & 0o777 == 0o700
    base.chmod(0o777)
    with pytest.raises(StorageError, match="changed by others"):
        runtime_dir.check_runtime_dir(config)
    base.chmod(0o700)
    somebody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    moved = base.rename(tmp_path / f"ndn-infer-{os.getuid()}")
    with pytest.raises(StorageError, match="belongs to another user"):
        runtime_dir.make_runtime_dir(config)
    monkeypatch.undo()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"ndn-infer-{os.getuid()}").symlink_to(moved)
    with pytest.raises(StorageError, match="is a link"):
        runtime_dir.check_runtime_dir(config)
