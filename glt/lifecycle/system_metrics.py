"""Load of the machine while a step trains: CPU, memory, and GPU where there is one, by MLflow's own monitors.

MLflow's `SystemMetricsMonitor` sends from its thread and, at the end, waits for the server
(mlflow/system_metrics/system_metrics_monitor.py of MLflow 3.17). Here the thread only reads: the step delivers the
samples with its other metrics, so an absent server neither slows nor holds it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from glt import settings
from glt.errors import first_line

_LOG = logging.getLogger(__name__)

_FIRST = 5.0  # seconds to the first sample
Sample = tuple[int, dict[str, float]]  # time in milliseconds, value by metric
_MOST = 1000  # samples that wait for the step
_PREFIX = "system/"  # MLflow shows these metrics on a page of their own


class Monitor(Protocol):
    """One of MLflow's monitors."""

    def collect_metrics(self) -> None:
        """Read the current values."""

    def aggregate_metrics(self) -> dict[str, float]:
        """The mean of what was read."""

    def clear_metrics(self) -> None:
        """Forget what was read."""


class Sampler:
    """Samples of the machine's load, taken by a thread of its own until `stop`."""

    def __init__(self, monitors: list[Monitor] | None = None) -> None:
        """Use these monitors; those that work here if none are given."""
        self._monitors = _available() if monitors is None else monitors
        self._samples: deque[Sample] = deque(maxlen=_MOST)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is anything to read."""
        if self._monitors:
            self._thread.start()

    def stop(self) -> None:
        """Stop; a monitor that hangs is left behind, and does not keep the process alive."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1.0)

    def take(self) -> list[Sample]:
        """The samples since the last call, the oldest first."""
        return [self._samples.popleft() for _ in range(len(self._samples))]

    def sample(self) -> None:
        """Take a sample. A monitor that fails is not asked again."""
        values: dict[str, float] = {}
        for monitor in list(self._monitors):
            try:
                monitor.collect_metrics()
                values |= {f"{_PREFIX}{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
            except Exception as error:  # of drivers, and of files of the system that are not there
                _LOG.debug("a monitor of the machine failed: %s", first_line(error))
                self._monitors.remove(monitor)
        if values:
            self._samples.append((int(time.time() * 1000), values))

    def _run(self) -> None:
        pause = _FIRST
        while not self._stopped.wait(pause) and self._monitors:
            self.sample()
            pause = settings.sampling_interval()


@contextmanager
def sampling() -> Iterator[Sampler]:
    """A sampler that runs within the block."""
    sampler = Sampler()
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.stop()


def _available() -> list[Monitor]:
    """MLflow's monitors that work here: psutil and, for GPUs, nvidia-ml-py must be installed."""
    found: list[Monitor] = []
    for load in (_cpu, _gpu):
        try:
            found.append(load())
        except Exception as error:  # a package or a driver is missing
            _LOG.debug("no metrics of the machine: %s", first_line(error))
    return found


def _cpu() -> Monitor:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

    monitor: Monitor = CPUMonitor()  # type: ignore[no-untyped-call]
    monitor.collect_metrics()  # CPU load is measured since the last call
    monitor.clear_metrics()
    return monitor


def _gpu() -> Monitor:
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitor: Monitor = GPUMonitor()  # type: ignore[no-untyped-call]
    return monitor
