"""Training state on disk."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from glt.errors import GltError
from glt.training.checkpoint import Checkpoint, Progress, fingerprint

IDENTITY = {"recipe": {"pretrain": {"lr": 0.002, "augment": {"mask": 0.1}}, "fractions": (0.05,)}, "code version": "c1"}


def train_small(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    train(model, optimizer, steps)
    return model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def save(folder: Path, *steps: int) -> None:
    checkpoint = Checkpoint(folder, IDENTITY)
    for number in steps:
        checkpoint.save(Progress(number // 10, number % 10, number), *train_small(number))


def names(folder: Path) -> list[str]:
    """What stands in the folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


def restore(folder: Path | None) -> Progress:
    checkpoint = Checkpoint(folder, IDENTITY)
    checkpoint.sweep()
    return checkpoint.restore(*train_small(0))


def test_what_is_restored_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Weights, buffers, optimiser moments, options of a group and the running epoch's sums all come back."""
    model, optimizer = train_small(3)
    optimizer.param_groups[0]["lr"] = 0.05
    sums = {"loss": torch.tensor(0.1) + 0.2, "seen": torch.tensor([3, 2**40])}
    progress = Progress(2, 5, 25, [{"loss": 1 / 3}], sums, {"batches": 5, "seconds": 1.5})
    Checkpoint(tmp_path, IDENTITY).save(progress, model, optimizer)
    torch.manual_seed(1)
    train(model, optimizer, 2)

    other, moments = train_small(0)
    again = Checkpoint(tmp_path, IDENTITY).restore(other, moments)
    assert (again.epoch, again.step, again.steps) == (2, 5, 25)
    assert (again.history, again.scalars) == (progress.history, progress.scalars)
    assert all(torch.equal(again.sums[name], value) for name, value in sums.items())
    assert moments.param_groups[0]["lr"] == 0.05
    torch.manual_seed(1)
    train(other, moments, 2)
    assert same(model, other)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    save(tmp_path, 3)
    assert names(tmp_path / "step-00000003") == ["manifest.json", "state.json", "state.safetensors"]


def test_the_last_two_stand_beside_each_other(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 30, 100)
    assert names(tmp_path) == ["step-00000030", "step-00000100"]
    assert restore(tmp_path).steps == 100


@pytest.mark.parametrize("case", ["weights", "manifest", "no manifest", "empty"])
def test_the_one_before_is_used_when_the_last_is_damaged(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    save(tmp_path, 1, 2)
    last = tmp_path / "step-00000002"
    if case == "weights":
        damaged = bytearray((last / "state.safetensors").read_bytes())
        damaged[-100] ^= 1
        (last / "state.safetensors").write_bytes(damaged)
    elif case == "manifest":
        (last / "manifest.json").write_text("[]")
    elif case == "no manifest":
        (last / "manifest.json").unlink()
    else:
        (last / "state.json").write_bytes(b"")
    assert restore(tmp_path).steps == 1
    assert f"checkpoint {last} is damaged and deleted, the one before is taken" in caplog.text
    save(tmp_path, 2)  # the same step again
    assert restore(tmp_path).steps == 2


@pytest.mark.parametrize("case", ["no folder", "never saved", "all damaged"])
def test_otherwise_the_run_starts_afresh(tmp_path: Path, case: str) -> None:
    folder = None if case == "no folder" else tmp_path / "states"
    if case == "all damaged":
        save(tmp_path / "states", 1, 2)
        for file in (tmp_path / "states").rglob("*.safetensors"):
            file.unlink()
    assert restore(folder) == Progress()


def test_what_a_killed_process_left_is_swept_and_the_users_own_files_stay(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".step-00000002.abc123").mkdir()
    (tmp_path / ".step-00000002.abc123" / "state.safetensors").write_bytes(b"half")
    (tmp_path / "step-by-step.md").write_text("mine")
    (tmp_path / ".lock").write_text("mine")
    own = [".lock", ".step-mine", "step-00000099", "step-by-step.md"]
    for folder in (".step-mine", "step-00000099"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.pt").write_text("mine")
    assert restore(tmp_path).steps == 1
    assert names(tmp_path) == sorted([*own, "step-00000001"])
    checkpoint = Checkpoint(tmp_path, IDENTITY, max_states=1)
    checkpoint.save(Progress(0, 2, 2), *train_small(2))
    assert names(tmp_path) == sorted([*own, "step-00000002"])
    with checkpoint.lock():
        checkpoint.delete()
    assert names(tmp_path) == own
    assert (tmp_path / "step-00000099" / "model.pt").read_text() == "mine"


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (
            {**IDENTITY, "recipe": {"pretrain": {"lr": 0.001, "augment": {"mask": 0.1}}, "fractions": (0.05,)}},
            "pretrain.lr: 0.002 in the checkpoint, 0.001 now; restore",
        ),
        ({**IDENTITY, "code version": "c2"}, "code version: c1 in the checkpoint, c2 now; restore"),
        ({"recipe": IDENTITY["recipe"]}, "code version: c1 in the checkpoint, absent now; restore"),
    ],
    ids=["recipe", "code", "absent"],
)
def test_another_run_is_rejected_with_what_changed(tmp_path: Path, now: dict[str, object], says: str) -> None:
    save(tmp_path, 1, 2)
    checkpoint, fresh = Checkpoint(tmp_path, now), train_small(0)
    checkpoint.sweep()
    with pytest.raises(GltError) as caught:
        checkpoint.restore(*fresh)
    assert says in str(caught.value)
    assert f"delete {tmp_path}, or give another --checkpoints" in str(caught.value)
    assert same(fresh[0], train_small(0)[0])
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_no_folder_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint(None, every=0)
    assert not checkpoint.is_due
    with checkpoint.lock():
        checkpoint.save(Progress(), *train_small(1))
        checkpoint.delete()
    assert not list(tmp_path.iterdir())


def test_a_state_is_due_when_the_last_is_old_enough(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path, every=0).is_due
    checkpoint = Checkpoint(tmp_path, every=1000)
    assert not checkpoint.is_due
    checkpoint._saved -= 1001
    assert checkpoint.is_due
    checkpoint.save(Progress(), *train_small(1))
    assert not checkpoint.is_due


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel refuses to make a file larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_volume_that_cannot_be_written_is_reported_and_the_states_before_stay(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with (
        no_file_above(100),
        pytest.raises(GltError, match=r"checkpoints .* cannot be written .*File too large.*make room"),
    ):
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    code = f"from glt.training.checkpoint import Checkpoint; from pathlib import Path\n\
with Checkpoint(Path({str(folder)!r})).lock(): print('mine', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(GltError, match="another process trains with them"):
        with Checkpoint(folder).lock():
            pass
    other.kill()
    other.wait()
    checkpoint = Checkpoint(folder)
    with checkpoint.lock():
        checkpoint.delete()
    assert not folder.exists()


def test_a_fingerprint_tells_runs_apart() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len({fingerprint(run) for run in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": {"b": 1}}, {"a": "1"})}) == 5


def test_a_state_replaces_one_of_the_same_step(tmp_path: Path) -> None:
    save(tmp_path, 3)
    shutil.copytree(tmp_path / "step-00000003", tmp_path / "copy")
    save(tmp_path, 3)
    assert names(tmp_path) == ["copy", "step-00000003"]
