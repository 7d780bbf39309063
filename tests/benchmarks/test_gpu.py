"""`make gpu`, on this CPU and in tiny sizes: every stage runs, and a stage that fails does not stop the others."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.parity import TOLERANCES, Tolerance
from glt.errors import GltError

OPTIONS = gpu.Options(torch.device("cpu"), tiny=True, deadline=time.monotonic() + 600, motions=gpu.ROOT / "nothing")


@pytest.mark.stack
def test_every_stage_runs(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device=cpu", "--tiny", f"--out={out}"]
    done = subprocess.run(command, cwd=gpu.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(out.read_text())
    assert not [name for name, value in values.items() if isinstance(value, dict) and "error" in value]
    assert all(row["within"] for row in values["parity"].values())
    assert values["steps"].keys() == {gpu.NTU, gpu.NWUCLA}
    assert values["kill_and_resume"]["difference_of_loss"] == 0
    assert values["checkpoint_on_cpu"]["difference"] == 0
    assert "gpu-files" in values["nw_ucla"]["skipped"] or values["nw_ucla"]["epochs"] == 2


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_format_out_of_bounds_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row["within"] for row in gpu.parity(OPTIONS).values()] == [True, True, True]
    monkeypatch.setitem(TOLERANCES, "bfloat16", Tolerance(0.0, 0.0))
    assert [row["within"] for row in gpu.parity(OPTIONS).values()] == [True, True, False]


@pytest.mark.parametrize("error", [GltError, RuntimeError, ValueError, AssertionError])
def test_a_stage_that_fails_leaves_its_reason_and_the_others_run(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: gpu.Options) -> gpu.Values:
        raise error("out of memory")

    names = ("parity", "matrix_rates", "steps", "feeding", "kill_and_resume", "checkpoint_on_cpu", "nw_ucla")
    for name in names:
        monkeypatch.setattr(gpu, name, lambda *_: {"is": "fine"})
    monkeypatch.setattr(gpu, "matrix_rates", fail)
    values = gpu.measure(OPTIONS, tmp_path / "gpu.json")
    assert values["matrix_tflops"] == {"error": "out of memory"}
    assert json.loads((tmp_path / "gpu.json").read_text()) == values
    assert [values[name] for name in ("parity", "steps", "nw_ucla")] == [{"is": "fine"}] * 3


def test_without_motions_that_training_is_left_out(tmp_path: Path) -> None:
    missing = tmp_path / "motions"  # outside the project
    assert gpu.nw_ucla(replace(OPTIONS, motions=missing)) == {
        "skipped": f"no motions in {missing}; run `make gpu-files RECORDINGS=...`"
    }
