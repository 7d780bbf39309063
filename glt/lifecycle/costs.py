"""The cost of a step: CPU and GPU hours, and their price if prices are set; all attempts of a step are added up.

CPU hours are the processor time that the step's processes used, so steps that run at the same time share the machine
without being counted twice. GPU hours are the time for which a GPU was held, used or not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from glt import settings
from glt.text import clean

if TYPE_CHECKING:
    from mlflow.entities import Run

CPU_HOURS, GPU_HOURS, PRICE = "cost/cpu_hours", "cost/gpu_hours", "cost/price"
CURRENCY = "cost.currency"  # tag


class Meter:
    """Counts from its creation on, on top of what earlier attempts of the step used.

    Attributes:
        processes: number of processes like this one that work on the step; each is taken to use as much.
        gpus: number of GPUs that they hold.
    """

    def __init__(self, before: Mapping[str, float]) -> None:
        """Take the metrics that earlier attempts recorded."""
        self.processes, self.gpus = 1, 0
        self._before = {name: before.get(name, 0.0) for name in (CPU_HOURS, GPU_HOURS)}
        self._cpu, self._time = _cpu_seconds(), _wall_seconds()

    def values(self) -> dict[str, float]:
        """The cost so far, by metric."""
        cpu = self.processes * (_cpu_seconds() - self._cpu) / 3600
        gpu = self.gpus * (_wall_seconds() - self._time) / 3600
        return _priced(self._before[CPU_HOURS] + cpu, self._before[GPU_HOURS] + gpu)


def total(steps: Iterable[Run]) -> dict[str, float]:
    """The cost of a pipeline run: that of its steps, as far as they ran and were not reused. Empty if none has one."""
    recorded = [run.data.metrics for run in steps if CPU_HOURS in run.data.metrics]
    if not recorded:
        return {}
    return _priced(*(sum(metrics.get(name, 0.0) for metrics in recorded) for name in (CPU_HOURS, GPU_HOURS)))


def _priced(cpu: float, gpu: float) -> dict[str, float]:
    """Hours by metric, with their price if the price of an hour is set; GPU hours if there are any."""
    hours = {CPU_HOURS: cpu, **({GPU_HOURS: gpu} if gpu else {})}
    prices = settings.cpu_hour_price(), settings.gpu_hour_price()
    return {**hours, PRICE: prices[0] * cpu + prices[1] * gpu} if any(prices) else hours


def tags() -> dict[str, str]:
    """The currency, if one is set."""
    currency = settings.currency()
    return {CURRENCY: clean(currency)[:100]} if currency else {}


def _cpu_seconds() -> float:
    """Processor time of this process and of its child processes that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _wall_seconds() -> float:
    return time.monotonic()
