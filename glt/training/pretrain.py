"""MPDP: multi-interval pose displacement prediction, the unsupervised pretraining (paper, Sec. 3.3)."""

from __future__ import annotations

import math

import torch

from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.motion.displacement import targets
from glt.recipe import PretrainConfig, Recipe
from glt.reporter import Reporter
from glt.training.batches import shuffled, training_batch
from glt.training.checkpoint import Checkpoint
from glt.training.encoder import build_encoder
from glt.training.mpdp import Pretrainer, Tally, loss


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
            whole, seen = training_batch(motions, chosen, config.augment, recipe.seed, epoch, recipe.model, device)
            goal = targets(whole, motions.bins)
            value = loss(model(seen.tokens, seen.present, seen.lengths), goal, config, tally=tally)
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
