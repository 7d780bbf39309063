"""MPDP: multi-interval pose displacement prediction, the unsupervised pretraining (paper, Sec. 3.3)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glt import artifact
from glt.errors import GltError
from glt.model import DisplacementHeads, GLTransformer
from glt.motion.disentangle import Motions
from glt.motion.displacement import Bins, Targets, targets
from glt.recipe import ModelConfig, PretrainConfig, Recipe
from glt.reporter import Reporter
from glt.training.batches import shuffled, training_batch
from glt.training.checkpoint import Checkpoint


class Pretrainer(nn.Module):
    """The encoder with MPDP's classifiers on top."""

    def __init__(self, encoder: GLTransformer, bins: Bins) -> None:
        super().__init__()
        self.encoder = encoder
        tokens = encoder.persons * encoder.joints
        self.heads = DisplacementHeads(encoder.width, tokens, len(bins.intervals), bins.classes)

    def forward(self, tokens: Tensor, present: Tensor, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Direction and magnitude logits [S, intervals, J, classes]; arguments as `GLTransformer.forward`."""
        direction, magnitude = self.heads(self.encoder(tokens, present, lengths))
        return direction, magnitude


@dataclass
class Tally:
    """Sums over an epoch, kept on the device: losses, and right answers and seen targets per interval."""

    intervals: tuple[int, ...]
    sums: dict[str, Tensor] = field(default_factory=dict)
    batches: int = 0
    clips: int = 0
    started: float = field(default_factory=time.perf_counter)

    def add(self, name: str, value: Tensor) -> None:
        """Add to a sum."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def metrics(self) -> dict[str, float]:
        """The epoch's metrics under their fixed keys."""
        result = {f"pretrain/{name}": float(self.sums[name]) / self.batches for name in self.sums if "loss" in name}
        seen = self.sums["seen"].clamp(min=1)
        for kind in ("direction", "magnitude"):
            for row, interval in enumerate(self.intervals):
                key = f"interval_{interval}"
                result[f"pretrain/{kind}_top1/{key}"] = float(self.sums[kind][row] / seen[row])
                common = self.sums[f"{kind}_classes"][row].max()
                result[f"pretrain/{kind}_majority/{key}"] = float(common / seen[row])
        result["speed/clips_per_s"] = self.clips / (time.perf_counter() - self.started)
        return result


def loss(logits: tuple[Tensor, Tensor], goal: Targets, config: PretrainConfig, tally: Tally | None = None) -> Tensor:
    """Eq. 15 with means for sums: cross entropy of joints plus `lambda_global` times that of the global translation.

    Args:
        logits: direction [S, I, J, 27] and magnitude [S, I, J, C].
        goal: classes [S, I, P, K]; targets that are not valid carry no loss.
        config: the lambdas.
        tally: gets the parts and the accuracies.
    """
    valid = goal.valid[..., None].expand_as(goal.direction)  # S, I, P, K
    weight = valid.to(logits[0].dtype)
    world, local = weight[..., :1].sum().clamp(min=1), weight[..., 1:].sum().clamp(min=1)
    weight = torch.cat([weight[..., :1] * (config.lambda_global / world), weight[..., 1:] / local], dim=-1)
    total = logits[0].new_zeros(())
    parts = (
        ("direction", logits[0], goal.direction, config.lambda_direction),
        ("magnitude", logits[1], goal.magnitude, config.lambda_magnitude),
    )
    for name, scores, classes, factor in parts:
        entropy = F.cross_entropy(scores.flatten(0, 2), classes.flatten(), reduction="none")
        part = (entropy * weight.flatten()).sum()
        total = total + factor * part
        if tally is not None:
            with torch.no_grad():
                right = (scores.argmax(-1).view_as(classes) == classes) & valid
                tally.add(name, right.sum((0, 2, 3)))
                tally.add(f"{name}_classes", _histogram(classes, valid, scores.shape[-1]))
                tally.add(f"loss_{name}", part)
    if tally is not None:
        tally.add("seen", valid.sum((0, 2, 3)))
        tally.add("loss", total)
        tally.batches += 1
    return total


def pretrain(
    motions: Motions,
    recipe: Recipe,
    device: torch.device,
    reporter: Reporter,
    checkpoint: Checkpoint,
) -> tuple[GLTransformer, list[dict[str, float]]]:
    """Train the encoder on all clips of the training side, labelled or not.

    Args:
        motions: disentangled clips.
        recipe: model, pretraining and seed.
        device: where to train.
        reporter: gets metrics and progress, an epoch each.
        checkpoint: where the state is kept; a state of the same run is continued.

    Returns:
        The encoder and a row of metrics an epoch.

    Raises:
        GltError: the loss is no longer finite; the last checkpoint stays.
    """
    config, numbers = recipe.pretrain, motions.numbers("train")
    torch.manual_seed(recipe.seed)
    model = Pretrainer(build_encoder(recipe.model, motions), motions.bins).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    done, history = checkpoint.restore(model, optimizer)
    reporter.progress("pretrain", done, config.epochs)
    for epoch in range(done, config.epochs):
        model.train()
        tally = Tally(motions.bins.intervals)
        batches = shuffled(numbers, recipe.seed, epoch, config.batch)
        for step, chosen in enumerate(batches):
            rate = learning_rate(config, epoch + step / len(batches))
            for group in optimizer.param_groups:
                group["lr"] = rate
            whole, seen = training_batch(
                motions, chosen, config.augment, recipe.seed, epoch, recipe.model.frames, device
            )
            goal = targets(whole, motions.bins)
            value = loss(model(seen.tokens, seen.present, seen.lengths), goal, config, tally)
            if not math.isfinite(value.item()):
                raise GltError(
                    f"pretraining: the loss is {value.item()} at epoch {epoch + 1}; lower pretrain.lr ({config.lr})"
                )
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            tally.clips += len(chosen)
        metrics = tally.metrics()
        history.append({"epoch": epoch + 1, **metrics})
        reporter.metrics({**metrics, "pretrain/lr": rate}, step=epoch + 1)
        note = f"loss {metrics['pretrain/loss']:.3f}, {metrics['speed/clips_per_s']:.0f} clips/s"
        reporter.progress("pretrain", epoch + 1, config.epochs, note)
        checkpoint.keep(epoch + 1, model, optimizer, history)
    return model.encoder, history


def learning_rate(config: PretrainConfig, epoch: float) -> float:
    """The rate at a (fractional) epoch: the paper's x0.99 an epoch, or 5 % linear warm-up and a cosine to zero."""
    if config.schedule == "exponential":
        return config.lr * 0.99 ** int(epoch)
    share = epoch / config.epochs
    if share < 0.05:
        return config.lr * (share + 1e-3) / (0.05 + 1e-3)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))


def build_encoder(config: ModelConfig, motions: Motions) -> GLTransformer:
    """An untrained encoder for these motions."""
    return GLTransformer(config, motions.persons, motions.joints)


def save_encoder(encoder: GLTransformer, history: list[dict[str, float]], out: Path, info: Mapping[str, Any]) -> None:
    """The ``encoder`` artifact: weights, sizes, history."""
    with artifact.create(out, "encoder", info) as folder:
        save_file(encoder.state_dict(), folder / "model.safetensors")
        artifact.write_json(folder / "config.json", encoder_config(encoder))
        artifact.write_json(folder / "history.json", history)


def encoder_config(encoder: GLTransformer) -> dict[str, Any]:
    """What builds the same encoder again."""
    return {
        "model": encoder.config.model_dump(mode="json"),
        "persons": encoder.persons,
        "joints": encoder.joints,
    }


def encoder_from(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> GLTransformer:
    """The encoder of `encoder_config` with these weights."""
    encoder = GLTransformer(ModelConfig.model_validate(config["model"]), config["persons"], config["joints"])
    encoder.load_state_dict(dict(weights))
    return encoder


def load_encoder(path: Path) -> GLTransformer:
    """The encoder of an ``encoder`` artifact, verified.

    Raises:
        GltError: the folder is not whole.
    """
    artifact.open_artifact(path, "encoder")
    config = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    return encoder_from(config, load_file(Path(path) / "model.safetensors"))


def _histogram(classes: Tensor, valid: Tensor, count: int) -> Tensor:
    """Targets of each class per interval, [I, count]."""
    per_interval = classes.transpose(0, 1).flatten(1)
    mask = valid.transpose(0, 1).flatten(1)
    rows = [torch.bincount(row[keep], minlength=count) for row, keep in zip(per_interval, mask, strict=True)]
    return torch.stack(rows)
