"""Scores -> decision -> registry: compare, report, register, promote, and the end of a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from glt import artifact
from glt.analysis import scores
from glt.analysis.report import write_report
from glt.data.clips import ClipStore
from glt.errors import GltError
from glt.lifecycle import gate, registry, tracking
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import Recipe, load, parse
from glt.reporter import Reporter
from glt.steps.provenance import versions_of
from glt.training.batches import device
from glt.training.classifier import load_classifier
from glt.training.probe import probe


def compare(
    clips: Path,
    classifier: Path,
    recipe: str,
    out: Path,
    accelerator: str = "auto",
    data_version: str = "",
    code_version: str = "",
) -> bool:
    """The gate: is this classifier better than the champion by more than chance? The verdict goes to `out`.

    Both are judged by validation predictions of the same labelled training clips (`glt.training.probe`); the test side
    is never looked at. Where there is no champion, the reference is the same probe on the untrained encoder.

    Raises:
        GltError: the artifacts are not whole, or the champion's cannot be fetched.
    """
    settings, info = load(recipe), artifact.open_artifact(classifier, "classifier")
    version = versions_of(info, data_version, code_version)
    with tracking.step(settings, version, "compare") as run:
        candidate = pd.read_parquet(Path(classifier) / "validation.parquet")
        champion = registry.champion(settings.model_name)
        seen = registry.comparisons(settings.model_name, version.data)
        if champion is not None and champion.tags.get("content.digest") == artifact.digest(classifier):
            verdict = gate.in_service(
                candidate["label"].tolist(),
                candidate["predicted"].tolist(),
                against=f"champion v{champion.version}",
                alpha=settings.gate.alpha,
            )
        elif champion is not None:
            reference = _champion_validation(champion, candidate, clips, settings, version, accelerator, run)
            verdict = _decide(candidate, reference, "predicted", f"champion v{champion.version}", settings, seen)
        else:
            verdict = _decide(candidate, candidate, "untrained", "untrained encoder", settings, seen)
        artifact.write_json(Path(out), verdict.to_dict())
        run.metrics(
            {
                "gate/passed": float(verdict.passed),
                "gate/p_value": verdict.p_value,
                "gate/candidate_top1": verdict.candidate_top1,
                "gate/reference_top1": verdict.reference_top1,
            }
        )
        run.tags({"gate.reason": verdict.reason})
        tracking.on_parent(settings, version, {}, {"gate.reason": verdict.reason})
    return verdict.passed


def report(
    clips: Path,
    motions: Path,
    encoder: Path,
    classifier: Path,
    finetuned: Sequence[Path],
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
            verdict=_verdict(verdict).to_dict(),
            links={},
        )
        run.file(Path(out), "report")
        metrics = _scores(store, encoder, classifier, finetuned)
        made_by = {"ingest": clips, "disentangle": motions, "pretrain": encoder, "linear_probe": classifier}
        made_by |= {f"finetune/{number}": folder for number, folder in enumerate(finetuned, 1)}
        tracking.on_parent(
            settings, version, metrics, {f"step.{name}": _run_id(folder) for name, folder in made_by.items()}
        )
    return metrics


def register(classifier: Path, verdict: Path, recipe: str, data_version: str = "", code_version: str = "") -> str:
    """A registered version of the classifier, with the alias `challenger` and the gate's reason; its number.

    Registering the same content again gives the version that is there.
    """
    settings, info = load(recipe), artifact.open_artifact(classifier, "classifier")
    version = versions_of(info, data_version, code_version)
    with tracking.step(settings, version, "register") as run:
        model = registry.register(Path(classifier), settings, version, _verdict(verdict), run.run_id)
        tracking.on_parent(settings, version, {}, {"model.version": model.version})
    return model.version


def promote(version: str, verdict: Path, recipe: str, data_version: str = "", code_version: str = "") -> None:
    """Make `version` the champion; the champion it replaces becomes `previous`.

    Raises:
        GltError: the verdict is not to promote, or there is no such version.
    """
    settings, decision = load(recipe), _verdict(verdict)
    if not decision.passed:
        raise GltError(f"{settings.model_name} v{version}: {decision.reason}; it stays challenger")
    with tracking.step(settings, tracking.Versions(data_version, code_version), "promote"):
        registry.promote(settings.model_name, version, decision.reason)


def finish(recipe: str, data_version: str, code_version: str, state: str, message: str = "") -> None:
    """Close the parent run as the pipeline ended.

    Args:
        recipe: name, path or text of the recipe.
        data_version: DVC md5 of the recordings.
        code_version: hash of the source tree.
        state: final state as Kubeflow Pipelines says it; SUCCEEDED is the good one.
        message: its error message, if any.
    """
    status = {"SUCCEEDED": "FINISHED", "CANCELLED": "KILLED"}.get(state, "FAILED")
    tracking.close(load(recipe), tracking.Versions(data_version, code_version), status, message)


def _decide(
    candidate: pd.DataFrame, reference: pd.DataFrame, column: str, against: str, recipe: Recipe, seen: int
) -> gate.Verdict:
    """The paired test on the clips that both tables hold."""
    merged = candidate.merge(reference[["name", column]].rename(columns={column: "reference"}), on="name")
    return gate.decide(
        merged["label"].tolist(),
        merged["predicted"].tolist(),
        merged["reference"].tolist(),
        against=against,
        alpha=recipe.gate.alpha,
        comparisons=seen,
    )


def _champion_validation(
    champion: registry.Version,
    candidate: pd.DataFrame,
    clips: Path,
    recipe: Recipe,
    version: tracking.Versions,
    accelerator: str,
    reporter: Reporter,
) -> pd.DataFrame:
    """The champion's validation predictions of the candidate's clips.

    Its stored ones, if it was validated on these clips; else its encoder is probed on them, disentangled its way.
    """
    folder = champion.folder()
    stored = pd.read_parquet(folder / "validation.parquet")
    if set(stored["sha256"]) == set(candidate["sha256"]) and set(stored["name"]) == set(candidate["name"]):
        return stored
    model, config = load_classifier(folder)
    theirs = parse({**config["recipe"], "data": recipe.data.model_dump()}, f"of champion v{champion.version}")
    with tempfile.TemporaryDirectory() as temporary:
        motions = Path(temporary) / "motions"
        write_motions(ClipStore(clips), theirs, motions, {"data_version": version.data}, reporter)
        return probe(model.encoder, Motions(motions), theirs, device(accelerator), reporter).validation


def _scores(clips: ClipStore, encoder: Path, classifier: Path, finetuned: Sequence[Path]) -> dict[str, float]:
    history = json.loads((Path(encoder) / "history.json").read_text(encoding="utf-8"))
    trials = []
    for folder in finetuned:
        info = artifact.open_artifact(folder, "classifier")
        trials.append((float(info["fraction"]), int(info["seed"]), _metrics(folder)))
    last = {name: value for name, value in history[-1].items() if name != "epoch"}
    rejected = {"data/clips": float(len(clips.index)), "data/rejected": float(len(clips.rejected))}
    return {**rejected, **last, **scores.summary(_metrics(classifier), trials)}


def _metrics(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def _run_id(folder: Path) -> str:
    return str(json.loads((Path(folder) / artifact.MANIFEST).read_text(encoding="utf-8"))["info"]["mlflow_run_id"])


def _verdict(path: Path) -> gate.Verdict:
    return gate.Verdict.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
