"""Cost and load of steps: added up over attempts and steps, and never in the way of a step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from glt.lifecycle import costs, outbox, run_ends, step_run, system_metrics, tracking
from glt.lifecycle.connection import connect
from glt.lifecycle.system_metrics import Sampler
from glt.recipe import load
from tests.lifecycle.conftest import VERSIONS, Server

RECIPE = load("sample")
HOUR = 3600.0


class Clock:
    """Processor time and wall time, as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = self.wall = 0.0
        monkeypatch.setattr(costs, "_cpu_seconds", lambda: self.cpu)
        monkeypatch.setattr(costs, "_wall_seconds", lambda: self.wall)

    def run(self, hours: float) -> None:
        self.cpu += hours * HOUR
        self.wall += hours * HOUR


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def metrics_of(run_id: str) -> dict[str, float]:
    return dict(connect().get_run(run_id).data.metrics)


def train(
    clock: Clock,
    hours: float,
    name: str = "pretrain",
    key: str = "",
    gpus: int = 0,
    processes: int = 1,
    ends_with: BaseException | None = None,
) -> str:
    with tracking.step(RECIPE, VERSIONS, name, key) as run, run.measured(processes, gpus):
        clock.run(hours)
        if ends_with:
            raise ends_with
    return run.run_id


def test_attempts_and_steps_are_added_up(home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(clock, 1.0, gpus=2, processes=2, ends_with=KeyboardInterrupt())
    parent = tracking.parent(RECIPE, VERSIONS)
    (run,) = tracking.children(connect(), parent, "pretrain")
    assert metrics_of(run.info.run_id)["cost/cpu_hours"] == pytest.approx(2.0)
    assert train(clock, 0.5, gpus=1) == run.info.run_id  # resumed on one GPU
    assert metrics_of(run.info.run_id)["cost/cpu_hours"] == pytest.approx(2.5)
    assert metrics_of(run.info.run_id)["cost/gpu_hours"] == pytest.approx(2.5)
    train(clock, 0.25, "finetune", "05pct-seed0")
    train(clock, 0.125, "finetune", "10pct-seed0")
    total = metrics_of(parent)
    assert total["cost/cpu_hours"] == pytest.approx(2.875)
    assert total["cost/gpu_hours"] == pytest.approx(2.5)
    assert "cost/price" not in total
    monkeypatch.setenv("GLT_CPU_HOUR_PRICE", "0.04")
    monkeypatch.setenv("GLT_GPU_HOUR_PRICE", "3")
    monkeypatch.setenv("GLT_CURRENCY", "EUR")
    run_ends.close(RECIPE, VERSIONS, "FINISHED")
    assert metrics_of(parent)["cost/price"] == pytest.approx(0.04 * 2.875 + 3 * 2.5)
    assert connect().get_run(parent).data.tags["cost.currency"] == "EUR"


def test_a_run_that_reused_its_training_has_not_paid_for_it_again(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(clock, 1.0)
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run-2")
    train(clock, 0.25, "gate")
    assert metrics_of(tracking.parent(RECIPE, VERSIONS)) == {"cost/cpu_hours": pytest.approx(0.25)}


@pytest.mark.parametrize("price", ["", "free", "-1", "nan", "inf"])
def test_a_price_that_is_none_gives_none(home: Path, clock: Clock, price: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_CPU_HOUR_PRICE", price)
    assert set(metrics_of(train(clock, 1.0))) == {"cost/cpu_hours"}


class Machine:
    """A monitor of MLflow's kind that reads 1, 2, 3, ... and then fails."""

    def __init__(self, last: int = 100) -> None:
        self.value, self.last = 0, last

    def collect_metrics(self) -> None:
        if self.value == self.last:
            raise OSError("the driver is gone")
        self.value += 1

    def aggregate_metrics(self) -> dict[str, float]:
        return {"cpu_utilization_percentage": self.value}

    def clear_metrics(self) -> None:
        """Nothing is kept."""


def test_samples_of_the_machine_arrive_with_the_step_s_own_metrics_and_each_with_the_cost_so_far(
    home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler([Machine(last=2)])
    monkeypatch.setattr(sampler, "start", lambda: None)
    monkeypatch.setattr(system_metrics, "Sampler", lambda: sampler)
    monkeypatch.setattr(step_run, "_FLUSH", 0.0)
    with tracking.step(RECIPE, VERSIONS, "pretrain") as run, run.measured():
        clock.run(1.0)
        sampler.sample()
        run.metrics({"pretrain/loss": 2.0}, 1)
        assert metrics_of(run.run_id)["cost/cpu_hours"] == pytest.approx(1.0)  # should it be killed from here on
        sampler.sample()
        sampler.sample()  # it fails, and is not asked again
    history = connect().get_metric_history(run.run_id, "system/cpu_utilization_percentage")
    assert [point.value for point in history] == [1.0, 2.0]
    assert all(point.step > 0 for point in history)


def test_the_machine_is_read_by_a_thread_that_ends_with_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "_FIRST", 0.0)
    read = threading.Event()

    class Seen(Machine):
        def clear_metrics(self) -> None:
            read.set()

    monkeypatch.setattr(system_metrics, "_available", lambda: [Seen()])
    with system_metrics.sampling() as sampler:
        assert read.wait(30)
    assert "system metrics" not in {thread.name for thread in threading.enumerate()}
    assert sampler.take()[0][1] == {"system/cpu_utilization_percentage": 1.0}


def test_cpu_and_memory_of_this_machine_are_read() -> None:
    sampler = Sampler()
    sampler.sample()
    ((_, values),) = sampler.take()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} <= values.keys()


def test_without_monitors_a_step_is_the_same(home: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> system_metrics.Monitor:
        raise ImportError("psutil")

    monkeypatch.setattr(system_metrics, "_cpu", missing)
    monkeypatch.setattr(system_metrics, "_gpu", missing)
    assert set(metrics_of(train(clock, 1.0))) == {"cost/cpu_hours"}


def test_the_cost_of_a_step_that_ended_while_the_server_was_away_arrives_later(
    server: Callable[[str], Server], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LAST_WAIT", 0.0)
    machine = server("cost-away")
    with tracking.step(RECIPE, VERSIONS, "pretrain") as run, run.measured():
        clock.run(1.0)
        machine.kill()
    machine.start()
    run_ends.close(RECIPE, VERSIONS, "FINISHED")
    assert metrics_of(run.run_id)["cost/cpu_hours"] == pytest.approx(1.0)
    assert metrics_of(run.parent_id)["cost/cpu_hours"] == pytest.approx(1.0)
