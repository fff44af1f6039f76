"""Energy, where this machine has a meter for it: RAPL counters (powercap) of its packages, or of an NVIDIA GPU (NVML).

Owns: reading them. Must not know: who is charged. Nothing is estimated: without a meter there is no energy.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

_POWERCAP: Final = Path("/sys/class/powercap")
_APART_S: Final = 0.5
"""Between two readings of a GPU."""


class EnergyMeter(Protocol):
    """`joules` grows; only differences mean anything."""

    @property
    def name(self) -> str: ...

    def joules(self) -> float: ...


@dataclass(slots=True)
class PowercapMeter:
    """All packages of the machine, with everything that runs on them. Source: Linux' powercap documentation."""

    zones: Sequence[Path]
    name: str = "powercap"
    _last: dict[Path, int] = field(default_factory=dict)
    _joules: float = 0.0

    def joules(self) -> float:
        for zone in self.zones:
            try:
                now = int((zone / "energy_uj").read_text())
                before = self._last.get(zone, now)
                if now < before:  # the counter began again
                    before -= int((zone / "max_energy_range_uj").read_text())
            except (OSError, ValueError):
                continue
            self._last[zone] = now
            self._joules += (now - before) / 1e6
        return self._joules


@dataclass(slots=True)
class NvmlMeter:
    """One GPU, with everything that runs on it. Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption.

    Reading takes milliseconds, more than a step, so between two readings the last one stands: the step that reads again
    is charged for those before it."""

    library: Any
    device: ctypes.c_void_p
    name: str = "nvml"
    clock: Callable[[], float] = time.monotonic
    _joules: float = 0.0
    _read_at: float = -math.inf

    def joules(self) -> float:
        now = self.clock()
        if now - self._read_at < _APART_S:
            return self._joules
        self._read_at = now
        value = ctypes.c_ulonglong()
        if self.library.nvmlDeviceGetTotalEnergyConsumption(self.device, ctypes.byref(value)) == 0:
            self._joules = value.value / 1000
        return self._joules


def find_meter(device: str = "cpu", powercap: Path = _POWERCAP) -> EnergyMeter | None:
    """The meter of what computes on `device` ("cpu", "cuda:0", ...), if there is one that can be read."""
    return _nvml(device) if device.startswith("cuda") else _rapl(powercap)


def _rapl(powercap: Path) -> EnergyMeter | None:
    zones = []
    for zone in sorted(powercap.glob("*:[0-9]*")) if powercap.is_dir() else ():
        try:
            package = (zone / "name").read_text().startswith("package")
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            continue
        if package:
            zones.append(zone)
    return PowercapMeter(zones) if zones else None


def _nvml(device: str) -> EnergyMeter | None:
    """Devices are numbered as NVML does; where CUDA_VISIBLE_DEVICES numbers them otherwise, no meter is trusted."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "0"):
        return None
    index = int(device.partition(":")[2] or 0)
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        handle = ctypes.c_void_p()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            return None
    except (OSError, AttributeError):
        return None
    meter = NvmlMeter(library, handle)
    return meter if meter.joules() else None
