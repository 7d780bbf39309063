"""Candidate against champion: the promotion gate's evidence."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from glt import artifact
from glt.data.clips import ClipStore
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
