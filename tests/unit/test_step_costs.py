"""What an engine's steps cost: all CPU time of its thread is somebody's, and a meter is read where there is one."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import threading
import time
from pathlib import Path

import pytest

from ndn_infer.config import EngineConfig
from ndn_infer.engine.energy import NvmlMeter, find_meter
from ndn_infer.engine.engine import Engine, StepOutput
from ndn_infer.engine.step_costs import EngineSpent, StepCosts, helper_clocks
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.records.sampling import Sampling
from tests.small_llama import small_model


def test_all_time_of_the_engines_thread_is_somebodys(tmp_path: Path) -> None:
    """Streams and overhead together are what the kernel says of that thread, within 5 %."""
    folder = small_model(tmp_path)

    async def scenario() -> None:
        worker = EngineWorker(lambda: Engine.load(folder, EngineConfig(dtype="fp32", block_tokens=4, max_streams=4)))
        engine = await worker.start()
        spent: list[EngineSpent] = []

        async def ask(number: int) -> None:
            ids = [(number * 31 + at) % 140 + 5 for at in range(40 + number)]
            ended = asyncio.Event()

            def on_step(output: StepOutput) -> None:
                if output.finished:
                    spent.append(output.stream.spent)
                    ended.set()

            await worker.generate(ids, Sampling(max_tokens=60, ignore_eos=True), (), on_step)
            await ended.wait()

        await asyncio.gather(*map(ask, range(8)))
        used = await worker.run(lambda engine: resource.getrusage(resource.RUSAGE_THREAD))
        total = engine.costs.total
        await worker.close()
        assert len(spent) == 8 and all(one.prefill_s > 0 and one.decode_s > 0 for one in spent)
        assert sum(one.prefill_s for one in spent) == pytest.approx(total.prefill_s)
        assert sum(one.decode_s for one in spent) == pytest.approx(total.decode_s)
        counted = total.prefill_s + total.decode_s + total.overhead_s
        assert counted == pytest.approx(used.ru_utime + used.ru_stime, rel=0.05)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def burn(seconds: float) -> None:
    """CPU time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_step_is_shared_by_tokens() -> None:
    costs, one, two, prompt = StepCosts(meter=None), EngineSpent(), EngineSpent(), EngineSpent()
    costs.begin()
    burn(0.004)
    costs.rows([(one, 1), (two, 3)])
    burn(0.002)
    costs.chunk(prompt, 16)
    burn(0.001)
    costs.end()
    assert two.decode_s == pytest.approx(3 * one.decode_s) and one.decode_s + two.decode_s >= 0.004
    assert prompt.prefill_s >= 0.002 and prompt.decode_s == 0
    assert costs.total.overhead_s >= 0.001


def test_helpers_are_threads_that_python_did_not_start() -> None:
    done, stay = threading.Event(), threading.Event()

    def stand() -> None:
        done.set()
        stay.wait()

    before = set(helper_clocks())
    thread = threading.Thread(target=stand)
    thread.start()
    done.wait()
    assert set(helper_clocks()) <= before
    stay.set()
    thread.join()


def test_energy_where_a_meter_is(tmp_path: Path) -> None:
    assert find_meter(powercap=tmp_path / "none") is None
    assert find_meter(powercap=tmp_path) is None
    zone, core = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder, name in ((zone, "package-0"), (core, "core")):
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("1000000\n")
        (folder / "max_energy_range_uj").write_text("5000000\n")
    meter = find_meter(powercap=tmp_path)
    assert meter is not None and meter.name == "powercap" and meter.joules() == 0
    (zone / "energy_uj").write_text("3500000\n")
    assert meter.joules() == pytest.approx(2.5)
    (zone / "energy_uj").write_text("500000\n")  # it began again
    assert meter.joules() == pytest.approx(4.5)
    costs, spent = StepCosts(meter=meter), EngineSpent()
    costs.begin()
    (zone / "energy_uj").write_text("1500000\n")
    costs.rows([(spent, 1), (EngineSpent(), 3)])
    costs.end()
    assert spent.joules == pytest.approx(0.25) and costs.total.joules == pytest.approx(1.0)


def test_a_gpu_is_read_twice_a_second_and_no_joule_is_lost() -> None:
    """A reading takes longer than a step. NVML itself is not here: what it would say is counted up."""
    read: list[int] = []

    class Library:
        def nvmlDeviceGetTotalEnergyConsumption(self, device: object, value: object) -> int:
            read.append(len(read))
            ctypes.cast(value, ctypes.POINTER(ctypes.c_ulonglong)).contents.value = 1000 * len(read)
            return 0

    now = [100.0]
    meter = NvmlMeter(Library(), ctypes.c_void_p(), clock=lambda: now[0])
    assert [meter.joules(), meter.joules()] == [1.0, 1.0] and len(read) == 1
    now[0] += 0.4
    assert meter.joules() == 1.0
    now[0] += 0.2
    assert meter.joules() == 2.0 and len(read) == 2
