"""Training state on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from glt.training.checkpoint import Checkpoint, fingerprint


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
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


def test_what_is_restored_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Weights, buffers, optimiser moments, options of a group and the random numbers all come back."""
    model, optimizer = trained(3)
    optimizer.param_groups[0]["lr"] = 0.05
    Checkpoint(tmp_path / "state", "run").save(3, model, optimizer, [{"loss": 1.5}])
    train(model, optimizer, 2)

    other, moments = trained(0)
    torch.manual_seed(99)
    assert Checkpoint(tmp_path / "state", "run").restore(other, moments) == (3, [{"loss": 1.5}])
    assert moments.param_groups[0]["lr"] == 0.05
    train(other, moments, 2)
    assert same(model, other)


@pytest.mark.parametrize("case", ["none", "never saved", "another run", "weights", "manifest", "no manifest", "empty"])
def test_otherwise_the_run_starts_afresh(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "state"
    if case != "never saved":
        Checkpoint(folder, "run").save(3, *trained(3), [{}])
    if case == "weights":
        damaged = bytearray((folder / "state.safetensors").read_bytes())
        damaged[-100] ^= 1
        (folder / "state.safetensors").write_bytes(damaged)
    if case == "manifest":
        (folder / "manifest.json").write_text("[]")
    if case == "no manifest":
        (folder / "manifest.json").unlink()
    if case == "empty":
        (folder / "state.json").write_bytes(b"")
    model, optimizer = trained(0)
    random = torch.get_rng_state()
    reader = Checkpoint(None if case == "none" else folder, "other" if case == "another run" else "run")
    assert reader.restore(model, optimizer) == (0, [])
    assert torch.equal(torch.get_rng_state(), random)
    assert same(model, trained(0)[0])
    assert not optimizer.state_dict()["state"]


def test_a_state_replaces_the_one_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "run")
    for epoch in (1, 2):
        checkpoint.save(epoch, *trained(epoch), [])
    assert checkpoint.restore(*trained(0))[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    checkpoint.drop()
    assert not list(tmp_path.iterdir())
    checkpoint.drop()


def test_no_folder_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint(None, "run", every=0)
    checkpoint.save(1, *trained(1), [])
    checkpoint.keep(1, *trained(1), [])
    checkpoint.drop()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("every", "kept"), [(0.0, 2), (1000.0, 0)])
def test_keep_saves_when_the_last_state_is_old_enough(tmp_path: Path, every: float, kept: int) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "run", every=every)
    for epoch in (1, 2):
        checkpoint.keep(epoch, *trained(1), [])
    assert checkpoint.restore(*trained(0))[0] == kept


def test_a_fingerprint_tells_every_part_from_every_other() -> None:
    assert fingerprint("a", "b") == fingerprint("a", "b")
    assert len({fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("ab"), fingerprint("a", "b", "")}) == 4
