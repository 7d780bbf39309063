"""MPDP: multi-interval pose displacement prediction, the unsupervised pretraining (paper, Sec. 3.3)."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import time
from contextlib import closing
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from glt.accelerator import on_gpu
from glt.errors import GltError, Interrupted, SharedError
from glt.model import DisplacementHeads, FeedForward, GLTransformer, SpatialAttention
from glt.motion.disentangle import Motions
from glt.motion.displacement import targets
from glt.randomness import seed_dropout
from glt.recipe import PretrainConfig, Recipe
from glt.reporter import Reporter
from glt.training.batches import ClipIds, PretrainingFeed, Share
from glt.training.checkpoint import Checkpoint
from glt.training.distributed import World
from glt.training.encoder import build_encoder, copy_weights
from glt.training.interruption import catch_sigterm
from glt.training.mpdp import Pretrainer, Tally, counts, loss

SYNC_EVERY = {"cpu": 1, "gpu": 10}  # steps between reading losses; on a GPU reading waits for the device


def train_encoder(
    motions: Motions,
    recipe: Recipe,
    device: torch.device | World,
    reporter: Reporter,
    checkpoint: Checkpoint,
    start: GLTransformer | None = None,
) -> tuple[GLTransformer, list[dict[str, float]]]:
    """Train the encoder on all clips of the training split, labelled or not.

    A batch does not depend on the number of processes: each takes a share of about as many frames, and the loss
    divides by the targets of the whole batch. Without dropout the weights are then the same, except for rounding.

    Args:
        motions: disentangled clips.
        recipe: model, pretraining and seed.
        device: where to train, or the processes that train together.
        reporter: receives metrics and progress once per epoch, including epochs before an interruption; processes
            other than the first need a silent one.
        checkpoint: where the state is stored; a state of the same run is continued.
        start: encoder whose weights training starts from; random weights if not given.

    Returns:
        The encoder, and the metrics of each epoch.

    Raises:
        SharedError: the loss is not finite (the last checkpoint stays), the checkpoint is of another run, or the
            sizes of `start` differ.
        Interrupted: the process received SIGTERM; the state is saved.
    """
    world = device if isinstance(device, World) else World(device)
    run = PretrainingRun(motions, recipe, world, checkpoint, start)
    config, progress = recipe.pretrain, run.progress
    with closing(run.feed), catch_sigterm() as terminated:
        for row in progress.history:  # an interrupted process may not have delivered all of its metrics
            run.report(row, reporter)
        reporter.progress("pretrain", progress.epoch, config.epochs)
        while progress.epoch < config.epochs:
            batches = run.begin_epoch()
            while progress.step < len(batches):
                run.step(batches, terminated.is_set())
            row = run.end_epoch()
            run.report(row, reporter)
            note = f"loss {row['pretrain/loss']:.3f}, {row['speed/clips_per_s']:.0f} clips/s"
            reporter.progress("pretrain", progress.epoch, config.epochs, note)
    return run.model.encoder, progress.history


class PretrainingRun:
    """A pretraining between two steps: the model, the optimiser, and the progress; arguments as `train_encoder`."""

    def __init__(
        self, motions: Motions, recipe: Recipe, world: World, checkpoint: Checkpoint, start: GLTransformer | None
    ) -> None:
        self.motions, self.recipe, self.world, self.checkpoint = motions, recipe, world, checkpoint
        self.config = recipe.pretrain
        check_speed(self.config, world.device)
        self.half = precision(self.config, world.device) == "bfloat16"
        self.feed = PretrainingFeed(motions, recipe, world)
        torch.manual_seed(recipe.seed)
        encoder = build_encoder(recipe.model, motions)
        if start is not None:
            copy_weights(start, encoder)
        self.model = Pretrainer(encoder, motions.bins).to(world.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay, fused=True
        )
        if world.is_first:
            checkpoint.sweep()
        world.wait()
        self.progress = checkpoint.restore(self.model, self.optimizer, quiet=not world.is_first)
        here = self.progress
        world.agree("where the training is (epochs, steps, steps in all)", here.epoch, here.step, here.steps)
        if self.config.compile:
            compile_layers(self.model)
        self.parallel = world.parallel(self.model)
        self.pending: list[Tensor] = []  # losses not read yet

    def begin_epoch(self) -> list[ClipIds]:
        """The batches of the epoch; its sums continue from the checkpoint."""
        self.parallel.train()
        self.tally, done = Tally(self.motions.bins.intervals), self.progress
        if done.scalars:
            self.tally.batches, self.tally.clips = int(done.scalars["batches"]), int(done.scalars["clips"])
            self.tally.start_time -= done.scalars["seconds"]
        for name, value in done.sums.items():  # of all processes; the first holds them from here on
            self.tally.sums[name] = value if self.world.is_first else torch.zeros_like(value)
        return self.feed.batches(done.epoch)

    def step(self, batches: list[ClipIds], ending: bool) -> Tensor:
        """One step of the optimiser; then a checkpoint, if one is due or this process has received SIGTERM (`ending`).

        Returns:
            The loss of this process's share of the batch, a scalar on the device.

        Raises:
            SharedError: the loss or a weight is not finite.
            Interrupted: a process has received SIGTERM; the state is saved.
        """
        here = self.progress
        rate = learning_rate(self.config, here.epoch + here.step / len(batches))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)  # before the forward pass, which needs the memory
        seed_dropout(self.recipe.seed, here.epoch, here.step, self.world.rank)
        value = self._loss(self.feed.share(here.epoch, here.step))
        self.tally.clips += len(batches[here.step])
        end, due = self._sync_losses(value, batches, ending)
        (value * self.world.size).backward()  # type: ignore[no-untyped-call]  # processes' gradients are averaged
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        here.step += 1
        here.steps += 1
        if end or due:
            self._save(batches)
        if end:
            folder = self.checkpoint.folder
            raise Interrupted(
                f"pretraining was interrupted (SIGTERM) at epoch {here.epoch + 1}, step {here.step} of {len(batches)}; "
                + (
                    f"its state is in {folder}, run the same again to go on"
                    if folder
                    else "no checkpoint was asked for"
                )
            )
        return value.detach()

    def end_epoch(self) -> dict[str, float]:
        """The metrics of the epoch, over all processes."""
        self.tally.sums = {name: self.world.total(value) for name, value in self.tally.sums.items()}
        metrics, here = self.tally.metrics(), self.progress
        here.epoch, here.step, here.sums, here.scalars = here.epoch + 1, 0, {}, {}
        row = {"epoch": here.epoch, **metrics}
        here.history.append(row)
        return row

    def report(self, row: dict[str, float], reporter: Reporter) -> None:
        """Report the metrics of an epoch and its last learning rate."""
        metrics, epoch = dict(row), int(row["epoch"])
        del metrics["epoch"]
        steps = self.feed.steps
        reporter.metrics({**metrics, "pretrain/lr": learning_rate(self.config, epoch - 1 / steps)}, step=epoch)

    def _loss(self, share: Share) -> Tensor:
        """The loss of this process's share of a batch; the sum over processes is the loss of the batch."""
        whole, seen = share.loaded.augmented(self.motions, self.config.augment, self.recipe.model, self.world.device)
        goal = targets(whole, self.motions.bins)
        if not share.carries_loss:
            goal = replace(goal, valid=torch.zeros_like(goal.valid))
        total = self.world.total(counts(goal, self.config))
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.half):
            direction, magnitude = self.parallel(seen.tokens, seen.present, seen.lengths)
        if self.half:
            direction, magnitude = direction.float(), magnitude.float()
        return loss((direction, magnitude), goal, self.config, total, self.tally)

    def _sync_losses(self, value: Tensor, batches: list[ClipIds], ending: bool) -> tuple[bool, bool]:
        """Two flags, equal in all processes: one of them received SIGTERM; a checkpoint is due.

        Raises:
            SharedError: a pending loss is not finite.
        """
        self.pending.append(value.detach())
        step = self.progress.step
        if len(self.pending) < SYNC_EVERY["gpu" if on_gpu(value.device) else "cpu"] and step + 1 < len(batches):
            return False, False
        flags = value.new_tensor([ending, self.world.is_first and self.checkpoint.is_due])
        *losses, end, due = self.world.total(torch.cat([torch.stack(self.pending), flags])).tolist()
        self.pending = []
        for index, one in enumerate(losses, start=step + 1 - len(losses)):
            if not math.isfinite(one):
                raise self._diverged(f"the loss is {one}", batches, index)
        return end > 0, due > 0

    def _save(self, batches: list[ClipIds]) -> None:
        here, tally = self.progress, self.tally
        if not all(bool(value.isfinite().all()) for value in self.model.parameters()):
            raise self._diverged("a weight is not finite any more", batches, here.step - 1)
        here.sums = {name: self.world.total(value) for name, value in tally.sums.items()}
        seconds = time.perf_counter() - tally.start_time
        here.scalars = {"batches": tally.batches, "clips": tally.clips, "seconds": seconds}
        if self.world.is_first:
            self.checkpoint.save(here, self.model, self.optimizer)

    def _diverged(self, what: str, batches: list[ClipIds], step: int) -> SharedError:
        here, names = self.progress, self.motions.index["name"].iloc[batches[step]].tolist()
        rate = learning_rate(self.config, here.epoch + step / len(batches))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return SharedError(
            f"pretraining: {what} at epoch {here.epoch + 1}, step {step + 1} of {len(batches)}, learning rate "
            f"{rate:.3g}, clips {', '.join(names[:5])}{more}; lower pretrain.lr ({self.config.lr}), or mend or remove "
            "what is wrong among these clips; the last checkpoint stays as it is"
        )


def precision(config: PretrainConfig, device: torch.device) -> Literal["float32", "bfloat16"]:
    """The type of matrix products; `auto` is bfloat16 on a GPU that has it, else float32."""
    if config.precision != "auto":
        return config.precision
    has = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has else "float32"


def check_speed(config: PretrainConfig, device: torch.device) -> None:
    """Reject settings that make training slower, or that cannot work here.

    Raises:
        GltError: `precision` is bfloat16 or `compile` is on, and the device is a CPU; or `compile` is on and there is
            no compiler. It names the field.
    """
    if on_gpu(device):
        if config.compile and (missing := _missing_to_compile()):
            raise GltError(
                f"pretrain.compile: torch.compile needs {missing}, which is missing here; install it, or take false"
            )
        return
    if config.precision == "bfloat16":
        raise GltError(
            f"pretrain.precision: {config.precision} on a CPU is many times slower than float32; take float32, or "
            "accelerator gpu"
        )
    if config.compile:
        raise GltError(
            "pretrain.compile: on a CPU torch.compile takes minutes and gains nothing; take false, or accelerator gpu"
        )


def _missing_to_compile() -> str:
    """Name of what torch.compile needs on a GPU and does not find; empty if it finds all."""
    if not importlib.util.find_spec("triton"):
        return "Triton"
    compilers = (os.environ.get("CC"), "gcc", "cc", "clang")
    return "" if any(shutil.which(name) for name in compilers if name) else "a C compiler (CC, gcc, cc or clang)"


def compile_layers(model: Pretrainer) -> None:
    """Compile, in place, the layers whose only varying size is the number of frames."""
    kinds = (SpatialAttention, FeedForward, DisplacementHeads)
    for layer in (model.encoder.head, *(module for module in model.modules() if isinstance(module, kinds))):
        layer.compile(dynamic=True)


def learning_rate(config: PretrainConfig, epoch: float) -> float:
    """Learning rate at a fractional epoch: x0.99 per epoch (paper, Sec. 4.2), or linear warm-up (5 %) and cosine."""
    if config.schedule == "exponential":
        return config.lr * 0.99 ** int(epoch)
    share = epoch / config.epochs
    if share < 0.05:
        return config.lr * (share + 1e-3) / (0.05 + 1e-3)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))
