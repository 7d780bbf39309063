"""Semi-supervised protocol: encoder and classifier trained on a fraction of the labels (paper, Sec. 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from glt.data import labelled_fractions
from glt.errors import GltError, Interrupted
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.randomness import seed_dropout
from glt.recipe import Recipe
from glt.reporter import Reporter
from glt.training import probe
from glt.training.batches import ClipIds, shuffled, training_batch
from glt.training.checkpoint import Checkpoint
from glt.training.classifier import ActionClassifier, accuracy, predict, training_classes
from glt.training.interruption import catch_sigterm


@dataclass(frozen=True)
class Finetuned:
    """The trained model, predictions for labelled test clips, metrics, and the training clips whose labels it saw."""

    model: ActionClassifier
    predictions: pd.DataFrame
    metrics: dict[str, float]
    labelled: ClipIds


def draw_labelled(motions: Motions, fraction: float, seed: int) -> ClipIds:
    """Indices of the training clips whose labels are used (`glt.data.labelled_fractions`).

    Raises:
        GltError: no labelled clip in the train split.
    """
    motions.clip_ids("train", labelled=True)
    stored = labelled_fractions.read_list(motions.path, motions.index, fraction, seed)
    return labelled_fractions.draw(motions.index, fraction, seed) if stored is None else stored


def finetune_classifier(
    encoder: GLTransformer,
    motions: Motions,
    recipe: Recipe,
    fraction: float,
    seed: int,
    device: torch.device,
    reporter: Reporter,
    checkpoint: Checkpoint,
) -> Finetuned:
    """Train encoder and classifier on `fraction` of the labels; evaluate the last epoch on the test clips.

    Raises:
        GltError: a split without labelled clips, labels of one class only, or a loss that is not finite.
        Interrupted: the process received SIGTERM; the state is saved.
    """
    config = recipe.finetune
    labelled, test = draw_labelled(motions, fraction, seed), motions.clip_ids("test", labelled=True)
    classes = training_classes(motions)
    torch.manual_seed(seed)
    model = ActionClassifier(encoder, classes, config.features, config.pool, config.parts).to(device)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "peak": config.encoder_lr},
            {"params": model.linear.parameters(), "peak": config.lr},
        ],
        weight_decay=config.weight_decay,
    )
    checkpoint.sweep()
    if config.start == "probe" and not checkpoint.has_state:
        probe.initialise_linear_layer(model, motions, labelled, recipe, device, reporter)
    here = checkpoint.restore(model, optimizer)
    task = f"finetune {fraction:.0%}"
    with catch_sigterm() as terminated:
        reporter.progress(task, here.epoch, config.epochs)
        for epoch in range(here.epoch, config.epochs):
            model.train()
            for chosen in shuffled(labelled, seed, epoch, config.batch)[here.step :]:
                optimizer.zero_grad(set_to_none=True)
                seed_dropout(seed, epoch, here.step)
                _, batch = training_batch(motions, chosen, config.augment, seed, epoch, recipe.model, device)
                answer = torch.from_numpy(np.searchsorted(classes, motions.labels(chosen))).to(device)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
                loss = F.cross_entropy(model(batch), answer)
                if not math.isfinite(value := loss.item()):
                    names = ", ".join(motions.index["name"].iloc[chosen[:5]])
                    raise GltError(
                        f"fine-tuning: the loss is {value} at epoch {epoch + 1}, step {here.step + 1}, clips {names}"
                        f"{', ...' if len(chosen) > 5 else ''}; lower finetune.lr ({config.lr}), or mend or remove "
                        "what is wrong among these clips; the last checkpoint stays as it is"
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                here.scalars = {"loss": here.scalars.get("loss", 0.0) + value * len(chosen)}
                here.step, here.steps = here.step + 1, here.steps + 1
                if terminated.is_set() or checkpoint.is_due:
                    checkpoint.save(here, model, optimizer)
                if terminated.is_set():
                    raise Interrupted(f"fine-tuning was interrupted (SIGTERM) at epoch {epoch + 1}, step {here.step}")
            here.history.append(here.scalars["loss"] / len(labelled))
            here.epoch, here.step, here.scalars = epoch + 1, 0, {}
            reporter.metrics({"finetune/loss": here.history[-1]}, step=epoch + 1)
            reporter.progress(task, epoch + 1, config.epochs, f"loss {here.history[-1]:.3f}")
    table = predict(model, motions, test, device)
    metrics = {**accuracy(table), "labelled": float(len(labelled))}
    return Finetuned(model.cpu(), table, metrics, labelled)
