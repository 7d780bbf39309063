"""The page on a run, and its scores where runs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glt import artifact
from glt.analysis import scores
from glt.analysis.page import PAGE
from glt.analysis.report import write_report
from glt.data.clips import ClipStore
from glt.lifecycle import tracking
from glt.lifecycle.gate import Verdict
from glt.motion.disentangle import Motions
from glt.recipe import load
from glt.steps.provenance import producing_run, versions_of


def report(
    clips: Path,
    motions: Path,
    encoder: Path,
    classifier: Path,
    finetuned: list[Path],
    verdict: Path,
    recipe: str,
    out: Path,
    data_version: str = "",
    code_version: str = "",
) -> dict[str, float]:
    """One HTML page on the run, and its scores on the parent run, where runs are compared.

    Raises:
        GltError: an artifact is not whole.
    """
    PAGE.check(out)
    settings, data = load(recipe), Motions(motions)
    version = versions_of(data.info, data_version, code_version)
    store = ClipStore(clips)
    with tracking.step(settings, version, "report") as run:
        write_report(
            Path(out),
            recipe=settings,
            clips=store,
            motions=data,
            encoder=encoder,
            classifier=classifier,
            finetunes=list(finetuned),
            verdict=Verdict.read(verdict).to_dict(),
            links={},
        )
        run.file(Path(out), "report")
        metrics = _scores(store, encoder, classifier, finetuned)
        folders = {"ingest": clips, "disentangle": motions, "pretrain": encoder, "linear_probe": classifier}
        folders |= {f"finetune/{index}": folder for index, folder in enumerate(finetuned, 1)}
        tags = {f"step.{name}": producing_run(folder) for name, folder in folders.items()}
        tracking.log_on_parent(settings, version, metrics, tags)
    return metrics


def _scores(clips: ClipStore, encoder: Path, classifier: Path, finetuned: Sequence[Path]) -> dict[str, float]:
    history = artifact.read_json(Path(encoder) / "history.json", list)
    trials = []
    for folder in finetuned:
        info = artifact.open_artifact(folder, "classifier")
        trials.append((float(info["fraction"]), int(info["seed"]), _metrics(folder)))
    last = {name: value for name, value in history[-1].items() if name != "epoch"}
    rejected = {"data/clips": float(len(clips.index)), "data/rejected": float(len(clips.rejected))}
    return {**rejected, **last, **scores.summary(_metrics(classifier), trials)}


def _metrics(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = artifact.read_json(Path(folder) / "metrics.json", dict)
    return metrics
