"""MPDP: the loss against a loop over every target, and runs that are interrupted."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glt import accelerator
from glt.errors import GltError, Interrupted
from glt.model import GLTransformer
from glt.motion.disentangle import Motions, write_motions
from glt.motion.displacement import targets
from glt.motion.packed import Packed
from glt.recipe import PretrainConfig, Recipe, load
from glt.reporter import Silent
from glt.training import pretrain as pretraining
from glt.training.batches import shuffled
from glt.training.checkpoint import Checkpoint, Progress
from glt.training.encoder import build_encoder, load_encoder, save_encoder
from glt.training.mpdp import Pretrainer, Tally, loss
from glt.training.pretrain import learning_rate, train_encoder
from tests.conftest import small_recipe, store

CPU = torch.device("cpu")
HEADS = ("direction", "magnitude")
BRIEF = small_recipe(pretrain={"epochs": 2, "batch": 16})
CLIPS = np.array([1, 7, 2, 13])
CONFIG = PretrainConfig(lambda_direction=0.7, lambda_magnitude=1.3, lambda_global=0.05)


def pretrainer(motions: Motions) -> Pretrainer:
    torch.manual_seed(0)
    model = Pretrainer(build_encoder(small_recipe().model, motions), motions.bins)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def few(motions: Motions) -> Packed:
    """Four clips, of 1 to 16 frames, the second person coming late; one frame shows nobody."""
    batch = motions.batch(CLIPS)
    batch.present[3] = False
    batch.tokens[3] = 0
    assert max(batch.lengths) < 16
    return batch


def test_targets_that_are_not_valid_carry_no_loss(motions: Motions) -> None:
    batch = few(motions)
    goal = targets(batch, motions.bins)
    assert not goal.valid.all()
    logits = [torch.randn(*goal.direction.flatten(2).shape, n, requires_grad=True) for n in (27, motions.bins.classes)]
    loss((logits[0], logits[1]), goal, CONFIG).backward()
    pending = ~goal.valid[..., None].expand_as(goal.direction).flatten(2)
    for scores in logits:
        assert not scores.grad[pending].any()
        assert scores.grad[~pending].any(dim=-1).all()


@pytest.mark.parametrize("clip", [None, 0.01])
def test_a_gradient_longer_than_the_clip_is_scaled_down(
    motions: Motions, clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *given: object) -> object:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        return step(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    train_encoder(
        motions, small_recipe(pretrain={"epochs": 1, "batch": 16, "clip": clip}), CPU, Silent(), Checkpoint(None)
    )
    assert len(norms) > 1
    assert all(norm <= 0.0101 for norm in norms) == (clip is not None)


def test_a_batch_that_shows_nobody_has_no_loss(motions: Motions) -> None:
    batch = few(motions)
    nobody = Packed(batch.tokens * 0, batch.present & False, batch.lengths)
    model = pretrainer(motions)
    value = loss(model(nobody.tokens, nobody.present, nobody.lengths), targets(nobody, motions.bins), CONFIG)
    value.backward()
    assert value.item() == 0
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_metrics_of_an_epoch(motions: Motions) -> None:
    """Two batches: losses are means over batches, accuracies and majorities over all valid targets."""
    model, tally, losses, counted = pretrainer(motions), Tally((1, 3)), [], []
    for clip_ids in (CLIPS, np.array([4, 5])):
        batch = motions.batch(clip_ids)
        batch = Packed(batch.tokens, batch.present, batch.lengths)
        goal = targets(batch, motions.bins)
        direction, magnitude = model.heads(torch.randn(len(batch.tokens), model.encoder.width))
        losses.append(loss((direction, magnitude), goal, CONFIG, tally=tally).item())
        counted.append((direction.argmax(-1), magnitude.argmax(-1), goal))
    metrics = tally.metrics()
    assert metrics["pretrain/loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    parts = 0.7 * metrics["pretrain/loss_direction"] + 1.3 * metrics["pretrain/loss_magnitude"]
    assert metrics["pretrain/loss"] == pytest.approx(parts, rel=1e-6)
    for row, interval in enumerate((1, 3)):
        for kind, name in enumerate(HEADS):
            guesses, answers = [], []
            for entry in counted:
                goal = entry[2]
                seen = goal.valid[:, row, :, None].expand_as(goal.direction[:, row])
                guesses += entry[kind].view_as(goal.direction)[:, row][seen].tolist()
                answers += getattr(goal, name)[:, row][seen].tolist()
            right = np.mean(np.array(guesses) == np.array(answers))
            assert metrics[f"pretrain/{name}_top1/interval_{interval}"] == pytest.approx(right, abs=1e-6)
            majority = np.bincount(answers).max() / len(answers)
            assert metrics[f"pretrain/{name}_majority/interval_{interval}"] == pytest.approx(majority, abs=1e-6)


class LostPod(Exception):
    """Stands for one."""


class Stopping:
    """A reporter that breaks a run off after some epochs, or sends SIGTERM, and notes what it is told."""

    def __init__(self, after: int = 10**9, *, kill: bool = False) -> None:
        self.after, self.kill, self.seen, self.metric = after, kill, [], {}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.metric[step] = dict(values)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        self.seen.append((task, done, total))
        if done == self.after and self.kill:
            os.kill(os.getpid(), signal.SIGTERM)
        elif done == self.after:
            raise LostPod


def reproducible(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if not key.startswith("speed/")} for row in history]


def equal(a: GLTransformer, b: GLTransformer) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("regularised", [False, True], ids=["plain", "dropout"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(motions: Motions, tmp_path: Path, regularised: bool) -> None:
    """Bit for bit, in the middle of epochs, with whatever random numbers the process that goes on has used before."""
    model = {"max_frames": 16, "head_dim": 2, "heads": 2, "depth": 2}
    model |= {"dropout": 0.2, "drop_path": 0.3} if regularised else {"dropout": 0.0, "drop_path": 0.0}
    augmented = {"epochs": 5, "batch": 8, "lr": 2e-3, "augment": {"mask": 0.1, "yaw": 30}}
    recipe = small_recipe(model=model, pretrain=augmented)
    encoder, history = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
    folder = tmp_path / "state"

    with pytest.raises(Interrupted, match=rf"at epoch 1, step 1 of 4; its state is in {folder}, run the same again"):
        train_encoder(motions, recipe, CPU, Stopping(0, kill=True), Checkpoint(folder))
    with pytest.raises(Interrupted, match="at epoch 3, step 1 of 4"):
        train_encoder(motions, recipe, CPU, Stopping(2, kill=True), Checkpoint(folder, every=0))
    with pytest.raises(LostPod):
        train_encoder(motions, recipe, CPU, Stopping(4), Checkpoint(folder, every=0))
    assert states(folder) == ["step-00000015", "step-00000016"]
    torch.manual_seed(99)
    reporter = Stopping()
    resumed, rows = train_encoder(motions, recipe, CPU, reporter, Checkpoint(folder, every=0))
    assert [done for _, done, _ in reporter.seen] == [3, 4, 5]  # what was done before is not trained again
    assert sorted(reporter.metric) == [1, 2, 3, 4, 5]  # but said again
    whole = Stopping()
    train_encoder(motions, recipe, CPU, whole, Checkpoint(None))
    assert reproducible([reporter.metric[n] for n in range(1, 6)]) == reproducible(
        [whole.metric[n] for n in range(1, 6)]
    )
    assert equal(resumed, encoder)
    assert reproducible(rows) == reproducible(history)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    motions: Motions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    recipe = small_recipe()
    encoder, history = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
    with pytest.raises(LostPod):
        train_encoder(motions, recipe, CPU, Stopping(3), Checkpoint(tmp_path, every=0))
    (tmp_path / "step-00000012" / "state.safetensors").write_bytes(b"half")
    again, rows = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(tmp_path, every=0))
    said = caplog.text
    assert "step-00000012 is damaged and deleted, the one before is taken" in said
    assert "goes on from" in said
    assert "step-00000011, 2 epochs and 3 steps done" in said
    assert equal(again, encoder)
    assert reproducible(rows) == reproducible(history)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(motions: Motions, tmp_path: Path) -> None:
    """It says when, with which clips and at which rate."""
    folder = tmp_path / "state"
    good = small_recipe()
    with pytest.raises(LostPod):
        train_encoder(motions, good, CPU, Stopping(3), Checkpoint(folder, every=0))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    recipe = small_recipe(pretrain={"epochs": 4, "batch": 8, "lr": 1e30})
    with pytest.raises(GltError, match=r"pretraining: the loss is (nan|inf) at epoch 4, step 2 of 4") as caught:
        train_encoder(motions, recipe, CPU, Silent(), Checkpoint(folder))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    message = str(caught.value)
    assert "learning rate 9.7e+29" in message
    batch = shuffled(motions.clip_ids("train"), 0, 3, 8)[1]
    names = motions.index["name"].iloc[batch].tolist()
    assert f"clips {', '.join(names[:5])} and {len(names) - 5} more; lower pretrain.lr (1e+30)" in message


def test_looking_at_the_losses_now_and_then_names_the_same_batch(
    motions: Motions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the batch of step 2 is named at the look after step 3, and nothing was saved after it."""
    monkeypatch.setitem(pretraining.SYNC_EVERY, "cpu", 3)
    recipe = small_recipe(pretrain={"epochs": 4, "batch": 8, "lr": 1e30})
    with pytest.raises(GltError, match="at epoch 1, step 2 of 4"):
        train_encoder(motions, recipe, CPU, Silent(), Checkpoint(tmp_path, every=0))
    assert states(tmp_path) == []

    good = small_recipe()
    with pytest.raises(Interrupted, match="at epoch 2, step 3 of 4"):  # the first look of that epoch
        train_encoder(motions, good, CPU, Stopping(1, kill=True), Checkpoint(tmp_path))
    resumed, rows = train_encoder(motions, good, CPU, Silent(), Checkpoint(tmp_path))
    encoder, history = train_encoder(motions, good, CPU, Silent(), Checkpoint(None))
    assert equal(resumed, encoder)
    assert reproducible(rows) == reproducible(history)


def test_weights_that_are_not_finite_are_not_saved(motions: Motions, tmp_path: Path) -> None:
    """A finite loss whose gradient is not: nothing may be left that a resumed run would start from."""

    class Poisoned(Checkpoint):
        def save(self, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            super().save(progress, model, optimizer)
            with torch.no_grad():  # the state is good; the next step's is not
                optimizer.state[next(model.parameters())]["exp_avg"].fill_(math.nan)

    with pytest.raises(GltError, match="a weight is not finite any more at epoch 1, step 2 of 4"):
        train_encoder(motions, small_recipe(), CPU, Silent(), Poisoned(tmp_path, every=0))
    assert states(tmp_path) == ["step-00000001"]


def changed_motions(folder: Path, what: str) -> Motions:
    """The motions with other test clips, or without labels."""
    clips = store()
    if what == "labels":
        clips.index["label"] = None
    else:
        for number in np.flatnonzero(clips.index["subject"].isin([3, 6])):
            clips.clips[number] = (clips.clips[number][0] * 2, clips.clips[number][1])
    write_motions(clips, small_recipe(), folder, {}, Silent())  # type: ignore[arg-type]
    return Motions(folder)


@pytest.mark.parametrize("what", ["labels", "test clips"])
def test_pretraining_looks_at_neither_labels_nor_test_clips(motions: Motions, tmp_path: Path, what: str) -> None:
    other = changed_motions(tmp_path / "motions", what)
    assert other.digest != motions.digest
    encoders = [train_encoder(m, BRIEF, CPU, Silent(), Checkpoint(None))[0] for m in (motions, other)]
    assert equal(*encoders)


def test_the_seed_decides(motions: Motions) -> None:
    def run(seed: int) -> GLTransformer:
        recipe: Recipe = BRIEF.model_copy(update={"seed": seed})
        return train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))[0]

    assert equal(run(0), run(0))
    assert not equal(run(0), run(1))


def test_the_classes_of_a_few_clips_can_be_learnt_by_heart(motions: Motions) -> None:
    torch.manual_seed(0)
    model = Pretrainer(build_encoder(small_recipe().model, motions), motions.bins)
    batch, tally = motions.batch(CLIPS[:2]), Tally((1, 3))
    goal = targets(batch, motions.bins)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(120):
        tally = Tally((1, 3)) if step == 119 else tally
        value = loss(model(batch.tokens, batch.present, batch.lengths), goal, PretrainConfig(), tally=tally)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    metrics = tally.metrics()
    for interval in (1, 3):
        for name in HEADS:
            assert metrics[f"pretrain/{name}_top1/interval_{interval}"] > 0.95
            assert metrics[f"pretrain/{name}_majority/interval_{interval}"] < 0.7


def test_every_epoch_is_reported(motions: Motions) -> None:
    recipe = small_recipe(pretrain={"epochs": 5, "batch": 8, "lr": 1e-2, "schedule": "cosine"})
    reporter = Stopping()
    _, history = train_encoder(motions, recipe, CPU, reporter, Checkpoint(None))
    assert [row["epoch"] for row in history] == list(range(1, 6))
    losses = [row["pretrain/loss"] for row in history]
    assert losses[-1] < losses[0]
    assert reporter.seen[-5:] == [("pretrain", epoch, 5) for epoch in range(1, 6)]
    rates = [reporter.metric[epoch].pop("pretrain/lr") for epoch in range(1, 6)]
    assert [{"epoch": epoch, **reporter.metric[epoch]} for epoch in range(1, 6)] == history
    assert rates[-1] < rates[1]


def test_the_papers_learning_rate() -> None:
    config = PretrainConfig(lr=5e-4, schedule="exponential")
    for epoch in (0, 1, 60, 119):
        for within in (0, 0.5, 0.99):
            assert learning_rate(config, epoch + within) == pytest.approx(5e-4 * 0.99**epoch)


def test_warm_up_and_cosine() -> None:
    config = PretrainConfig(lr=1.0, schedule="cosine", epochs=40)
    rates = [learning_rate(config, epoch) for epoch in np.linspace(0, 40, 401)]
    assert 0 < rates[0] < 0.05
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert rates.index(max(rates)) == 20  # 5 % of 400
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert learning_rate(config, 2 + 19) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


def test_an_encoder_comes_back_from_its_folder(motions: Motions, tmp_path: Path) -> None:
    encoder = pretrainer(motions).encoder
    save_encoder(encoder, [{"epoch": 1, "pretrain/loss": 0.5}], tmp_path / "encoder", {"recipe": {}})
    again = load_encoder(tmp_path / "encoder")
    assert equal(again, encoder)
    assert (again.config, again.persons, again.joints) == (encoder.config, 2, 6)
    batch = few(motions)
    F = [model.eval()(batch.tokens, batch.present, batch.lengths) for model in (encoder, again)]
    assert torch.equal(*F)
    assert json.loads((tmp_path / "encoder" / "history.json").read_text()) == [{"epoch": 1, "pretrain/loss": 0.5}]


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_encoder_is_rejected(motions: Motions, tmp_path: Path, file: str, damage: str) -> None:
    folder = tmp_path / "encoder"
    save_encoder(pretrainer(motions).encoder, [], folder, {})
    if damage == "cut":
        (folder / file).write_bytes((folder / file).read_bytes()[:-7])
    else:
        (folder / file).unlink()
    with pytest.raises(GltError, match="encoder"):
        load_encoder(folder)
    shutil.rmtree(folder)
    with pytest.raises(GltError, match="not a finished encoder folder"):
        load_encoder(folder)


@pytest.mark.parametrize(("field", "value"), [("precision", "bfloat16"), ("compile", True)])
def test_what_only_hurts_on_a_cpu_is_rejected(motions: Motions, field: str, value: object) -> None:
    recipe = small_recipe(pretrain={"epochs": 1, "batch": 16, field: value})
    with pytest.raises(GltError, match=rf"pretrain\.{field}: .* or accelerator gpu"):
        train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))


def test_half_precision_learns_the_same(motions: Motions, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, where it is only slow: the loss of bfloat16 follows that of float32, and weights stay float32."""
    monkeypatch.setattr(pretraining, "check_speed", lambda *_: None)
    losses = {}
    for precision in ("float32", "bfloat16"):
        recipe = small_recipe(pretrain={"epochs": 4, "batch": 16, "lr": 2e-3, "precision": precision})
        encoder, history = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
        losses[precision] = [row["pretrain/loss"] for row in history]
        assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)
    assert losses["bfloat16"] != losses["float32"]


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_a_gpu_runs_learns_the_same(motions: Motions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on after an interruption, also on a CPU."""
    recipe = small_recipe(pretrain={"epochs": 3, "batch": 8, "lr": 2e-3, "precision": "float32"})
    whole, history = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
    with pytest.raises(Interrupted):
        train_encoder(motions, recipe, CPU, Stopping(1, kill=True), Checkpoint(tmp_path))
    resumed, _ = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(tmp_path))
    assert equal(resumed, whole)
    monkeypatch.setattr(accelerator, "GPUS", {"cuda"})
    _, rows = train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
    losses = [[row["pretrain/loss"] for row in found] for found in (history, rows)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_auto_is_half_precision_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_recipe().pretrain
    assert config.precision == "auto"
    assert pretraining.precision(config, CPU) == "float32"
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert pretraining.precision(config, torch.device("cuda")) == ("bfloat16" if has else "float32")
    assert load("nw-ucla-paper").pretrain.precision == load("ntu120-xset-reference").pretrain.precision == "float32"


@pytest.mark.usefixtures("as_on_a_gpu")
def test_compiling_without_a_compiler_is_refused(motions: Motions, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(pretrain={"epochs": 1, "batch": 16, "compile": True})
    monkeypatch.setattr(pretraining.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(GltError, match=r"pretrain\.compile: .* needs Triton, .* take false"):
        train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
    monkeypatch.setattr(pretraining.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(pretraining.shutil, "which", lambda _: None)
    with pytest.raises(GltError, match=r"needs a C compiler .* take false"):
        train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))


def test_compiled_layers_compute_the_same(motions: Motions) -> None:
    """Without generating code, which needs a compiler: what the tracer sees is what the layers compute."""
    model, batch = pretrainer(motions), few(motions)
    expected = model(batch.tokens, batch.present, batch.lengths)
    with torch.compiler.set_stance("force_eager"):
        pretraining.compile_layers(model)
        found = model(batch.tokens, batch.present, batch.lengths)
    assert set(model.state_dict()) == set(pretrainer(motions).state_dict())
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)
