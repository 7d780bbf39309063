"""The MLflow run of a step: what the step records goes through an outbox, so no failure of MLflow stops it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glt import settings
from glt.lifecycle import costs, outbox
from glt.lifecycle.costs import Meter
from glt.lifecycle.system_metrics import Sampler, sampling
from glt.reporter import ConsoleReporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

PAGE_ENDING = ".html"
_BATCH = 1000  # metrics MLflow takes at once
_FLUSH = 2.0  # seconds between two deliveries of metrics


class StepRun:
    """The MLflow run of a step; a `glt.reporter.Reporter`.

    Once it is open, no failure of MLflow stops the step: messages that cannot be delivered are queued for later.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        parent_id: str,
        arm: str = "",
        started: int = 0,
        recorded: Mapping[str, float] | None = None,
    ) -> None:
        """Use `step`."""
        self.run_id, self.parent_id, self._client, self._arm = run_id, parent_id, client, arm
        self._console = ConsoleReporter()
        self._outbox = outbox.Outbox(client, settings.store_uri(), run_id, settings.home() / "spool")
        self._rows: list[tuple[str, float, int, int]] = []
        self._next = 0.0
        self._once = False
        self._started, self._meter = started or now(), Meter(recorded or {})
        self._sampler: Sampler | None = None
        self.is_measured = False

    @contextmanager
    def measured(self, processes: int = 1, gpus: int = 0) -> Iterator[None]:
        """Within the block record the load of the machine, and the cost with every sample, also of a killed attempt.

        Args:
            processes: that work on the step as this one does.
            gpus: that they hold.
        """
        self.is_measured = True
        self._meter.processes, self._meter.gpus = processes, gpus
        with sampling() as self._sampler:
            try:
                yield
            finally:
                self._take_samples()
                self._collect(self._meter.values(), self._second())
                if tags := costs.tags():
                    self.tags(tags)

    def _second(self) -> int:
        """Seconds since the first attempt of the step began: the axis of measures that have no epoch."""
        return max(1, (now() - self._started) // 1000)

    def _take_samples(self) -> None:
        samples = self._sampler.take() if self._sampler else []
        for time_read, sample in samples:
            step = max(1, (time_read - self._started) // 1000)
            self._rows += [(name, value, time_read, step) for name, value in sample.items()]
        if samples:
            time_now, step = now(), self._second()
            self._rows += [(name, value, time_now, step) for name, value in self._meter.values().items()]

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Show it on the console."""
        self._console.progress(f"{self._arm} {task}".strip(), done, total, note)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record `values` at `step`; they are delivered a few at a time."""
        self._collect(values, step)

    def missing_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record `values` at `step`; those that the run already has at delivery are skipped."""
        self._flush()
        self._once = True
        self._collect(values, step)
        self._flush()
        self._once = False

    def _collect(self, values: Mapping[str, float], step: int) -> None:
        time_now = now()
        self._rows += [(name, float(value), time_now, step) for name, value in values.items()]
        if time.monotonic() >= self._next:
            self._take_samples()
            self._flush()

    def logged_steps(self, name: str) -> set[int] | None:
        """The steps at which an earlier attempt recorded a metric; None if the store cannot be read."""
        try:
            with outbox.without_retries():
                return {metric.step for metric in self._client.get_metric_history(self.run_id, name)}
        except Exception:  # sqlalchemy, requests and MLflow each raise their own
            return None

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings; an existing one keeps its value."""
        self._outbox.send("params", values={name: str(value) for name, value in values.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._outbox.send("tags", values={name: str(value) for name, value in values.items()})

    def untag(self, name: str) -> None:
        """Remove a tag, if it exists."""
        self._outbox.send("untag", name=name)

    def figure(self, figure: Figure, name: str) -> None:
        """Log a figure as a PNG."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            with warnings.catch_warnings(record=True) as caught:
                figure.savefig(path, dpi=120, bbox_inches="tight")
            if any("missing from font" in str(one.message) for one in caught):
                logging.getLogger(__name__).warning(
                    "%s: characters missing from all installed fonts are drawn as boxes; install fonts-noto-cjk", name
                )
            self.file(path, "figures")

    def file(self, path: Path, folder: str = "", name: str = "") -> None:
        """Log a file under `folder`, with another name if one is given."""
        if not name or name == Path(path).name:
            self._outbox.send("file", Path(path), folder=folder)
            return
        with tempfile.TemporaryDirectory() as temporary:
            copy = shutil.copyfile(path, Path(temporary) / name)
            self._outbox.send("file", copy, folder=folder)

    def page(self, path: Path, folder: str, name: str) -> str:
        """Log an HTML page under `folder` as ``<name>.html``: MLflow shows pages that have this ending.

        Kubeflow Pipelines chooses the path of a page that a step writes, without an ending.

        Returns:
            Its path among the run's artifacts.
        """
        self.file(path, folder, f"{name}{PAGE_ENDING}")
        return f"{folder}/{name}{PAGE_ENDING}"

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Record which data the step used, here and on the parent run.

        Args:
            name: of the dataset.
            digest: DVC md5; MLflow keeps 36 characters.
            source: where it was read from.
            context: training or evaluation.
        """
        for run_id in (self.run_id, self.parent_id):
            self._outbox.send("dataset", run_id=run_id, name=name, digest=digest[:36], source=source, context=context)

    def end(self, status: str, also_parent: bool = False) -> bool:
        """Deliver what waits and close the run; if the server is away, leave both to the next `connect`.

        Returns:
            True if everything was delivered.
        """
        self._flush()
        for run_id in (self.run_id, self.parent_id)[: 2 if also_parent else 1]:
            self._outbox.send("end", run_id=run_id, status=status, milliseconds=now())
        return self._outbox.settle()

    def _flush(self) -> None:
        for start in range(0, len(self._rows), _BATCH):
            self._outbox.send("metrics", rows=self._rows[start : start + _BATCH], once=self._once)
        self._rows = []
        self._next = time.monotonic() + _FLUSH


def now() -> int:
    """The time in milliseconds, as MLflow counts it."""
    return int(time.time() * 1000)
