"""The page on a run, and its scores where runs are compared."""

from __future__ import annotations

from pathlib import Path

from glt import artifact
from glt.analysis import few_labels, scores
from glt.analysis.few_labels import FewLabels
from glt.analysis.page import PAGE
from glt.analysis.report import write_report
from glt.data.clips import ClipStore
from glt.lifecycle import notes, tracking
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
    """One HTML page on the run; its scores, recordings and note on the parent run, where runs are compared.

    The page links to the parent run, the data report and the registered model, and the note on the run to the page.

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
            links=notes.links(run.parent_id, producing_run(clips), settings.model_name),
        )
        run.page(Path(out), notes.REPORT, "report")
        source = str(store.info.get("source", clips))
        # The parent of a run that reused every other step has no dataset yet.
        run.dataset(settings.data.dataset, version.data, source, "training")
        tuned = few_labels.read(finetuned)
        metrics = _scores(store, encoder, classifier, tuned)
        folders = {"ingest": clips, "disentangle": motions, "pretrain": encoder, "linear_probe": classifier}
        folders |= {f"finetune/{index}": folder for index, folder in enumerate(finetuned, 1)}
        tags = {f"step.{name}": producing_run(folder) for name, folder in folders.items()}
        if tuned.note:
            tags[few_labels.TAG] = tuned.note
        tracking.log_on_parent(settings, version, metrics, tags)
        notes.describe_run(run.parent_id)
    return metrics


def _scores(clips: ClipStore, encoder: Path, classifier: Path, tuned: FewLabels) -> dict[str, float]:
    history = artifact.read_json(Path(encoder) / "history.json", list)
    last = {name: value for name, value in history[-1].items() if name != "epoch"}
    rejected = {"data/clips": float(len(clips.index)), "data/rejected": float(clips.files_rejected)}
    return {**rejected, **last, **scores.summary(_metrics(classifier), tuned.results)}


def _metrics(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = artifact.read_json(Path(folder) / "metrics.json", dict)
    return metrics
