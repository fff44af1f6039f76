"""AMX: when it is taken, what its results are called, and that calls of a fixed number of rows change no number."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine import attention, instructions, linear  # noqa: E402
from ndn_infer.engine.linear import Dense, DenseRows, Matrix  # noqa: E402
from ndn_infer.engine.llama import Llama  # noqa: E402
from tests.small_llama import small_model  # noqa: E402


def pretend(monkeypatch: pytest.MonkeyPatch, *, has: bool, limit: str | None) -> None:
    """A CPU with AMX or without, and what the environment says."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has)
    if limit is None:
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    else:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)


@pytest.mark.parametrize(
    ("limit", "taken"), [("AVX512_CORE_BF16", False), ("avx2", False), ("DEFAULT", True), ("AVX512_CORE_AMX", True)]
)
def test_amx_is_taken_where_it_is_and_is_allowed(monkeypatch: pytest.MonkeyPatch, limit: str, taken: bool) -> None:
    pretend(monkeypatch, has=True, limit=limit)
    assert instructions.amx() is taken
    pretend(monkeypatch, has=False, limit=limit)
    assert not instructions.amx()


def test_amx_is_not_taken_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, has=True, limit=None)
    instructions.limit_instructions()
    assert not instructions.amx()


def test_kv_of_amx_and_of_so_many_threads_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = small_model(tmp_path)
    plain = [Llama.load(folder, EngineConfig(dtype)).engine_class.machine for dtype in ("bf16", "fp32")]
    pretend(monkeypatch, has=True, limit="DEFAULT")
    marked = {}
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        marked[threads] = [Llama.load(folder, EngineConfig(dtype)).engine_class.machine for dtype in ("bf16", "fp32")]
        assert marked[threads] == [f"amx{threads}", plain[1]]
    assert instructions.machine_of(torch.device("cpu"), torch.bfloat16, packed=False) == "amx2-mapped"


@pytest.mark.parametrize("packed", [False, True])
def test_products_of_fixed_rows_are_those_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """Up to AVX-512, where the number of rows changes nothing."""
    weight = (torch.randn(192, 576, generator=torch.Generator().manual_seed(2)) * 0.05).bfloat16()
    at_once = Matrix(weight, packed=packed)
    monkeypatch.setattr(linear, "amx", lambda: True)
    fixed = Matrix(weight, packed=packed)
    rows: list[int] = []
    call = fixed._call
    monkeypatch.setattr(fixed, "_call", lambda x, bias: rows.append(x.shape[0]) or call(x, bias))
    for count in (1, 15, 16, 17, 64, 65, 130):
        x = torch.randn(count, 576, generator=torch.Generator().manual_seed(count)).bfloat16()
        for kind, each in ((Dense, 64), (DenseRows, 16)):
            rows.clear()
            assert torch.equal(kind(fixed)(x), kind(at_once)(x)), (kind, count)
            assert rows == [each] * -(-count // each)


@pytest.mark.parametrize("start", [0, 40, 200, 250])
def test_attention_of_fixed_rows_is_that_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    draw = torch.Generator().manual_seed(5)
    count, cpu, dtype = 150, torch.device("cpu"), torch.bfloat16
    queries = torch.randn(6, count, 32, generator=draw).to(dtype)
    keys, values = torch.randn(2, 2, 512, 32, generator=draw).to(dtype)
    results = []
    for fixed in (False, True):
        monkeypatch.setattr(attention, "amx", lambda fixed=fixed: fixed)
        plan = attention.plan_prompt(start, count, start + count, attention.AttentionKind(dtype, cpu, grouped=True))
        assert isinstance(plan, attention.ProductPlan)
        if fixed:
            assert {mask.shape[0] for *_, mask in plan.masks} == {64}
        results.append(plan.attend(queries, keys[:, : plan.extent], values[:, : plan.extent]))
    assert torch.equal(*results)
