"""The operations of a pretraining step on a GPU: few enough that its host keeps up, and none that waits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from benchmarks import operations
from glt.recipe import load
from glt.training import mpdp


def test_a_step_at_the_size_of_ntu() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.operations"], capture_output=True, text=True, check=True
    ).stdout
    counted = json.loads(said)
    assert counted["aten"] <= 2_500
    assert counted["launches"] <= 900
    assert counted["syncs"] == 0
    assert counted["aten"] > counted["launches"] > 500  # a forward pass, a backward pass and the optimiser


def test_a_wait_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the host reads within a step, as an accuracy would be: tensors without values have none."""
    histogram = mpdp.histogram

    def read(classes: Tensor, valid: Tensor, count: int) -> Tensor:
        assert float(valid.sum()) >= 0
        return histogram(classes, valid, count)

    monkeypatch.setattr(mpdp, "histogram", read)
    small = load("sample")
    with pytest.raises(DataDependentOutputException):
        operations.count(small, "nwucla")


def test_what_counts() -> None:
    counter = operations.Count()
    x = torch.arange(12.0)
    with counter:
        y = x.view(3, 4) * 2  # a view and a kernel
        y[y > 3]  # a kernel, and an index whose size the host must know
        y.sum().item()  # a kernel and a wait
        torch.empty(3)
    assert counter.by_name == {"view": 1, "mul": 1, "gt": 1, "index": 1, "sum": 1, "_local_scalar_dense": 1, "empty": 1}
    assert counter.to_dict() == {"aten": 7, "launches": 5, "syncs": 2}
