"""Motions -> encoder -> classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from glt import artifact
from glt.accelerator import device
from glt.analysis.scores import fraction_key
from glt.errors import GltError
from glt.lifecycle import registry, tracking
from glt.motion.disentangle import Motions
from glt.recipe import Recipe, load
from glt.reporter import Silent
from glt.settings import home
from glt.steps.provenance import provenance, versions_of
from glt.training import finetune as finetuning
from glt.training import pretrain as pretraining
from glt.training import probe as probing
from glt.training.checkpoint import Checkpoint, fingerprint
from glt.training.classifier import load_classifier, save_classifier
from glt.training.distributed import world as world_of
from glt.training.encoder import load_encoder, save_encoder


def pretrain(
    motions: Path,
    recipe: str,
    out: Path,
    accelerator: str = "auto",
    checkpoints: Path | None = None,
    save_every: float = 30.0,
    data_version: str = "",
    code_version: str = "",
) -> dict[str, float]:
    """MPDP on all training clips, labelled or not: the ``encoder`` artifact at `out`. Runs under torchrun, too.

    An interrupted run of the same recipe, data and code goes on at its last checkpoint, on as many processes as it
    is then given.

    Args:
        motions: folder of motions.
        recipe: name, path or text of the recipe.
        out: where the encoder goes.
        accelerator: cpu, gpu or auto.
        checkpoints: folder for the state of this run, seen by all its processes; default: one of its own in GLT_HOME.
        save_every: seconds between two checkpoints.
        data_version: DVC md5 of the recordings; that of `motions` if not given.
        code_version: hash of the source tree; computed if not given.

    Returns:
        The last epoch's metrics; none in other processes than the first.

    Raises:
        GltError: no training clip, no such accelerator, a loss that is not finite, or `checkpoints` holds another run.
        Interrupted: SIGTERM came; the state is saved.
    """
    artifact.check_replaceable(out, "encoder")
    settings, data = load(recipe), Motions(motions)
    version = versions_of(data.info, data_version, code_version)
    checkpoint = pretraining_state(data, settings, version, checkpoints)
    checkpoint.every = save_every
    start = None
    if settings.pretrain.start:
        start = load_classifier(registry.find(settings.pretrain.start).folder())[0].encoder
    with world_of(accelerator) as world:
        if not world.is_first:
            pretraining.train_encoder(data, settings, world, Silent(), checkpoint, start)
            return {}
        with checkpoint.lock(), artifact.reserve(out), tracking.step(settings, version, "pretrain") as run:
            run.dataset(settings.data.dataset, version.data, str(motions), "training")
            reporter = _ResumedReporter(run, run.logged_steps("pretrain/loss") if checkpoint.has_state else set())
            with run.measured(world.size, world.size if world.device.type == "cuda" else 0):
                encoder, history = pretraining.train_encoder(data, settings, world, reporter, checkpoint, start)
            save_encoder(encoder.cpu(), history, out, provenance(version, settings, run.run_id))
            checkpoint.delete()
            from glt.analysis import figures

            run.figure(figures.curves(history), "curves.png")
    return {name: value for name, value in history[-1].items() if name != "epoch"}


def linear_probe(
    motions: Path,
    encoder: Path,
    recipe: str,
    out: Path,
    accelerator: str = "auto",
    data_version: str = "",
    code_version: str = "",
) -> dict[str, float]:
    """Linear evaluation of the frozen encoder: the ``classifier`` artifact at `out`.

    Raises:
        GltError: no labelled clip in a split, or one class only.
    """
    from glt.analysis import figures

    artifact.check_replaceable(out, "classifier")
    settings, data = load(recipe), Motions(motions)
    version = versions_of(data.info, data_version, code_version)
    with artifact.reserve(out), tracking.step(settings, version, "linear_probe") as run:
        run.dataset(settings.data.dataset, version.data, str(motions), "evaluation")
        result = probing.fit_probe(load_encoder(encoder), data, settings, device(accelerator), run)
        save_classifier(
            result.model,
            data,
            settings,
            {"predictions": result.predictions, "validation": result.validation},
            result.metrics,
            out,
            provenance(version, settings, run.run_id),
        )
        table = result.predictions
        run.figure(
            figures.confusion(table["label"].tolist(), table["predicted"].tolist(), result.model.classes),
            "confusion.png",
        )
    return result.metrics


def finetune(
    motions: Path,
    encoder: Path,
    recipe: str,
    fraction: float,
    seed: int,
    out: Path,
    accelerator: str = "auto",
    tasks_at_once: int = 1,
    data_version: str = "",
    code_version: str = "",
) -> dict[str, float]:
    """Train encoder and classifier on `fraction` of the labels, drawn with `seed`: a ``classifier`` artifact at `out`.

    Args:
        motions: folder of motions.
        encoder: folder of the pretrained encoder.
        recipe: name, path or text of the recipe.
        fraction: of the labelled training clips of each class, above 0, at most 1.
        seed: of the draw, the classifier's start and the order.
        out: where the classifier goes.
        accelerator: cpu, gpu or auto.
        tasks_at_once: how many such tasks share this machine's cores.
        data_version: DVC md5 of the recordings; that of `motions` if not given.
        code_version: hash of the source tree; computed if not given.

    Raises:
        GltError: a fraction out of range, no labelled clip in a split, one class only, or a loss that is not finite.
        Interrupted: SIGTERM came; the state is saved.
    """
    if not 0 < fraction <= 1:
        raise GltError(f"fraction {fraction}: give the labelled share as a number above 0 and at most 1")
    artifact.check_replaceable(out, "classifier")
    settings, data = load(recipe), Motions(motions)
    version = versions_of(data.info, data_version, code_version)
    torch.set_num_threads(max(1, torch.get_num_threads() // tasks_at_once))
    trial = f"{fraction_key(fraction)}-seed{seed}"
    checkpoint = _checkpoint(f"finetune-{trial}", data, settings, version, encoder=artifact.digest(encoder))
    with checkpoint.lock(), artifact.reserve(out), tracking.step(settings, version, "finetune", trial) as run:
        run.dataset(settings.data.dataset, version.data, str(motions), "training")
        start, on = load_encoder(encoder), device(accelerator)
        with run.measured(gpus=int(on.type == "cuda")):
            result = finetuning.finetune_classifier(start, data, settings, fraction, seed, on, run, checkpoint)
        names = data.index["name"].iloc[result.labelled]
        save_classifier(
            result.model,
            data,
            settings,
            {"predictions": result.predictions, "labelled": names.to_frame()},
            result.metrics,
            out,
            provenance(version, settings, run.run_id, fraction=fraction, seed=seed),
        )
        checkpoint.delete()
        metrics = {f"finetune/{name}": value for name, value in result.metrics.items()}
        run.metrics(metrics)
    return metrics


class _ResumedReporter:
    """The reporter of a resumed training: records the epochs that an earlier attempt has not."""

    def __init__(self, run: tracking.StepRun, logged: set[int] | None) -> None:
        self._run, self._logged, self.progress = run, logged, run.progress

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record what an earlier attempt has not."""
        if self._logged is None:  # MLflow is away: it is asked when the metrics are delivered
            self._run.missing_metrics(values, step)
        elif step not in self._logged:
            self._run.metrics(values, step)


def pretraining_state(
    motions: Motions, recipe: Recipe, version: tracking.Versions, folder: Path | None = None
) -> Checkpoint:
    """The checkpoint of a pretraining with this recipe, data and code, in `folder` or in GLT_HOME."""
    return _checkpoint("pretrain", motions, recipe, version, folder=folder)


def _checkpoint(
    name: str, motions: Motions, recipe: Recipe, version: tracking.Versions, folder: Path | None = None, **more: str
) -> Checkpoint:
    """The checkpoints of a training: of this recipe, data and code only, and where they outlive the task."""
    identity = {
        "training": name,
        "recipe": recipe.model_dump(mode="json"),
        "data (digest of the motions)": motions.digest,
        "code version": version.code,
        **more,
    }
    return Checkpoint(folder or home() / "checkpoints" / f"{name}-{fingerprint(identity)}", identity)
