"""The promotion gate as a step: gathers the evidence on candidate and champion, decides, records the verdict."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from glt import artifact
from glt.accelerator import device
from glt.data import duplicates
from glt.data.clips import ClipStore
from glt.lifecycle import registry, tracking, verdict_text
from glt.lifecycle.gate import VERDICT, Evidence, Verdict, already_in_service, decide
from glt.motion.disentangle import Motions, write_motions
from glt.outputs import csv_bytes
from glt.recipe import Recipe, load, parse
from glt.reporter import Reporter
from glt.serving.model import Predictor, latency
from glt.settings import home
from glt.steps import findings
from glt.steps.provenance import versions_of
from glt.training.classifier import load_classifier, read_validation
from glt.training.probe import fit_probe

EVIDENCE = "gate"  # folder of the evidence among the run's artifacts


def gate(
    clips: Path,
    classifier: Path,
    recipe: str,
    out: Path,
    accelerator: str = "auto",
    data_version: str = "",
    code_version: str = "",
) -> bool:
    """Decide whether a classifier may replace the champion; write the verdict to `out`.

    The candidate must be significantly better, no class may get much worse, latency must stay within its bound, and
    the recordings must raise no alarm (`glt.lifecycle.gate`).

    Both models are compared on validation predictions of the same labelled training clips (`glt.training.probe`); the
    test split is never used. Without a champion, the reference is the same probe on an untrained encoder.

    Raises:
        GltError: an artifact is incomplete, or the champion's files cannot be fetched.
    """
    VERDICT.check(out)
    settings, info = load(recipe), artifact.open_artifact(classifier, "classifier")
    version = versions_of(info, data_version, code_version)
    with tracking.step(settings, version, "gate") as run:
        candidate = read_validation(classifier)
        champion = registry.champion(settings.model_name)
        if champion is not None and champion.tags.get("content.digest") == artifact.digest(classifier):
            labels, answers = candidate["label"].tolist(), candidate["predicted"].tolist()
            verdict = already_in_service(labels, answers, version=champion.version, rules=settings.gate)
        else:
            reference = candidate.assign(predicted=candidate["untrained"])
            if "right" in candidate:
                reference["right"] = candidate["untrained_right"]
            folders = [Path(classifier)]
            if champion is not None:
                folders.append(champion.folder())
                reference = _champion_validation(
                    champion, folders[-1], candidate, clips, settings, version, accelerator, run
                )
            both = _with_shares(candidate).merge(
                _with_shares(reference)[["name", "predicted", "right"]], on="name", suffixes=("", "_reference")
            )
            both = both.rename(columns={"predicted_reference": "reference", "right_reference": "reference_right"})
            subjects = _subjects(both, clips)
            evidence = Evidence(
                labels=both["label"].tolist(),
                candidate=both["predicted"].tolist(),
                reference=both["reference"].tolist(),
                baseline=f"champion v{champion.version}" if champion else "untrained encoder",
                champion_version=champion.version if champion else "",
                latency=latency([Predictor(folder) for folder in folders]),
                findings=findings.load_findings(settings, version.data),
                comparisons=registry.comparisons(settings.model_name, version.data),
                answers_uri=f"runs:/{run.run_id}/{EVIDENCE}",
                subjects=subjects,
                candidate_right=both["right"].tolist(),
                reference_right=both["reference_right"].tolist(),
            )
            verdict = decide(evidence, settings.gate)
            _keep(both.assign(subject=pd.array(subjects, dtype="Int64")), verdict, run)
        verdict = replace(verdict, candidate_digest=artifact.digest(classifier))
        verdict.write(out)
        run.metrics(
            {
                "gate/passed": float(verdict.passed),
                "gate/p_value": verdict.p_value,
                "gate/candidate_top1": verdict.candidate_top1,
                "gate/reference_top1": verdict.reference_top1,
                "gate/subjects": float(verdict.subjects),
            }
        )
        run.tags({"gate.reason": verdict.reason, "gate.test": verdict.test})
        tracking.log_on_parent(settings, version, {}, {"gate.reason": verdict.reason})
    return verdict.passed


def write_page(verdict: Path, out: Path) -> None:
    """Write the verdict in a file as Markdown.

    Raises:
        GltError: the file is missing, or anything but a verdict.
    """
    artifact.write_bytes(out, verdict_text.markdown(Verdict.read(verdict)).encode())


def _keep(both: pd.DataFrame, verdict: Verdict, run: tracking.StepRun) -> None:
    """Log the evidence: both predictions for every clip, and the verdict."""
    with tempfile.TemporaryDirectory() as folder:
        columns = ["name", "label", "predicted", "reference", "subject", "right", "reference_right"]
        (Path(folder) / "answers.csv").write_bytes(csv_bytes(both[columns]))
        artifact.write_json(Path(folder) / "verdict.json", verdict.to_dict())
        for name in ("answers.csv", "verdict.json"):
            run.file(Path(folder) / name, EVIDENCE)


def _with_shares(validation: pd.DataFrame) -> pd.DataFrame:
    """Validation predictions with the column `right`, which earlier versions did not store."""
    if "right" in validation:
        return validation
    return validation.assign(right=(validation["predicted"] == validation["label"]).astype(float))


def _subjects(validation: pd.DataFrame, clips: Path) -> list[int | None]:
    """The subject of each clip; of a classifier that stores none, as an earlier version wrote it, from the clips."""
    if "subject" in validation:
        column = validation["subject"]
    else:
        column = validation["name"].map(ClipStore(clips).index.set_index("name")["subject"])
    return [None if pd.isna(subject) else int(subject) for subject in column]


def _champion_validation(
    champion: registry.Version,
    folder: Path,
    candidate: pd.DataFrame,
    clips: Path,
    recipe: Recipe,
    version: tracking.Versions,
    accelerator: str,
    reporter: Reporter,
) -> pd.DataFrame:
    """The champion's validation predictions of the candidate's clips, from its files in `folder`.

    Its stored ones, if it was validated on these clips with these labels; else its encoder is probed on them,
    disentangled its way.
    """
    if (folder / "validation.parquet").exists():  # a fine-tuned champion has none
        stored = read_validation(folder)
        columns = ["name", "sha256", "label"]
        if set(stored[columns].itertuples(index=False)) == set(candidate[columns].itertuples(index=False)):
            return stored
    model, config = load_classifier(folder)
    theirs = parse({**config["recipe"], "data": recipe.data.model_dump()}, f"of champion v{champion.version}")
    with tempfile.TemporaryDirectory() as temporary:
        motions = Path(temporary) / "motions"
        cache = duplicates.cache_file(home() / "segments", recipe.data.dataset)
        write_motions(ClipStore(clips), theirs, motions, {"data_version": version.data}, reporter, cache)
        return fit_probe(model.encoder, Motions(motions), theirs, device(accelerator), reporter).validation
