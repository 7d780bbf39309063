"""The report of a run: one self-contained HTML page for those who run the retraining."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from glt import artifact
from glt.analysis import examples, few_labels, figures
from glt.analysis.few_labels import FewLabels
from glt.analysis.page import PAGE, environment, safe_links
from glt.analysis.scores import Score, per_class, score, summary, wilson
from glt.data import clip_warnings
from glt.data.clips import ClipStore
from glt.data.protocols import TEST, TRAIN
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.recipe import Recipe
from glt.training.classifier import read_validation

LISTED = 200  # rejected files listed one by one


@dataclass(frozen=True)
class Row:
    """A line of the scores table; `clean` is None where nothing can leak."""

    name: str
    note: str
    all: Score
    clean: Score | None


@dataclass(frozen=True)
class FractionRow:
    """A line of the semi-supervised table; shares, NaN where there is no value."""

    name: str
    labelled: float
    values: list[float]
    mean: float
    sd: float
    clean_mean: float
    clean_sd: float
    interval: tuple[float, float] | None


def write_report(
    out: Path,
    *,
    recipe: Recipe,
    clips: ClipStore,
    motions: Motions,
    encoder: Path,
    classifier: Path,
    finetunes: Sequence[Path],
    verdict: Mapping[str, Any],
    links: Mapping[str, str],
) -> None:
    """Write the page to `out`, atomically.

    Args:
        out: the HTML file.
        recipe: of the run.
        clips: recordings as they were ingested.
        motions: the same clips, disentangled and split.
        encoder: folder of the pretrained encoder.
        classifier: folder of the probed classifier, the one that is registered.
        finetunes: folders of the fine-tuned classifiers, one a labelled fraction and seed.
        verdict: `glt.lifecycle.gate.Verdict.to_dict()`.
        links: name -> address, shown at the top (the MLflow run, ...).

    Raises:
        GltError: a folder is not whole or not of its kind, or the clips are not those of the motions.
    """
    names = clips.index["name"].tolist()
    if names != motions.index["name"].tolist():
        raise GltError(f"{motions.path}: not made from {clips.path}; run disentangle on these clips again")
    encoder_info = artifact.open_artifact(encoder, "encoder")
    artifact.open_artifact(classifier, "classifier")
    history = artifact.read_json(encoder / "history.json", list)
    metrics = artifact.read_json(classifier / "metrics.json", dict)
    with artifact.reading(classifier / "predictions.parquet"):
        predictions = pd.read_parquet(classifier / "predictions.parquet")
    validation = read_validation(classifier)
    tuned = few_labels.read(finetunes)
    leaked = int((~motions.index["clean"]).sum())
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    page = (
        environment()
        .get_template("report.html")
        .render(
            recipe=recipe,
            recipe_text=yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            written=datetime.now(UTC),
            links=safe_links(links),
            verdict=dict(verdict),
            sentence=_sentence(str(verdict["reason"])),
            paired=_paired(verdict),
            scores=_scores(metrics, predictions, validation, leaked > 0),
            fractions=_fractions(tuned, len(predictions)),
            same_fractions=tuned.note,
            leaked=leaked,
            data=_data(clips, motions),
            examples=_examples(clips, motions, recipe),
            history=history,
            curves=_curves(history),
            confusion=_confusion(predictions, classes),
            classes=classes,
            per_class=[
                {**row, "interval": wilson(row["right"], row["total"])}
                for row in per_class(predictions).to_dict("records")
            ],
            versions=_versions(encoder_info, clips, motions, encoder, classifier),
        )
    )
    PAGE.write(Path(out), page.encode())


def _scores(
    metrics: Mapping[str, float], predictions: pd.DataFrame, validation: pd.DataFrame, leaks: bool
) -> list[Row]:
    """Probe first, then what it is compared with; scores known as shares only are counted on the same test clips."""
    total, clean = len(predictions), int(predictions["clean"].sum())

    def row(name: str, note: str, key: str) -> Row:
        clean_score = Score.of(metrics[f"{key}_clean"], clean) if clean else Score(0, 0)
        return Row(name, note, Score.of(metrics[key], total), clean_score if leaks else None)

    rows = [
        Row(
            "Linear probe",
            "the encoder frozen, a linear classifier on all labels",
            score(predictions),
            score(predictions, clean=True) if leaks else None,
        )
    ]
    if "knn/top1" in metrics:
        rows.append(row("Nearest neighbour", "same features, the label of the nearest training clip", "knn/top1"))
    if "probe/untrained_top1" in metrics:
        rows.append(row("Untrained encoder", "same probe, no pretraining: the floor", "probe/untrained_top1"))
    held_out = Score(int((validation["label"] == validation["predicted"]).sum()), len(validation))
    rows.append(Row("Validation", "training clips, each predicted without its group; the gate's basis", held_out, None))
    return rows


def _fractions(tuned: FewLabels, total: int) -> list[FractionRow]:
    rows = []
    for fraction in sorted({fraction for fraction, _, _ in tuned.results}):
        results = [one for one in tuned.results if one[0] == fraction]
        of_seeds = [float(metrics["top1"]) for _, _, metrics in sorted(results, key=lambda one: one[1])]
        part = {key.split("/")[2]: value for key, value in summary({}, results).items()}
        one = Score.of(of_seeds[0], total).interval if len(of_seeds) == 1 and total else None
        missing = math.nan
        rows.append(
            FractionRow(
                tuned.name(fraction),
                part.get("labelled_mean", missing),
                of_seeds,
                part["top1_mean"],
                part.get("top1_sd", missing),
                part.get("top1_clean_mean", missing),
                part.get("top1_clean_sd", missing),
                one,
            )
        )
    return rows


def _data(clips: ClipStore, motions: Motions) -> dict[str, Any]:
    """Clips per class and split, rejected files by check, warnings by kind."""
    index, rejected = motions.index, clips.rejected
    labelled = index[index["label"].notna()]
    table = pd.crosstab(labelled["label"], labelled["split"]).reindex(columns=["train", "test"], fill_value=0)
    unlabelled = index[index["label"].isna()]["split"].value_counts()
    checks = [
        {"check": check, "count": len(rows), "source": rows["source"].iloc[0], "reason": rows["reason"].iloc[0]}
        for check, rows in sorted(rejected.groupby("check"), key=lambda item: -len(item[1]))
    ]
    seconds = float(clips.index["length"].sum()) / clips.skeleton.rate
    return {
        "clips": len(index),
        "hours": seconds / 3600,
        "length": [int(clips.index["length"].quantile(q)) for q in (0, 0.5, 1)],
        "splits": {split: int((index["split"] == split).sum()) for split in (TRAIN, TEST)},
        "groups": {split: sorted({str(g) for g in index["group"][index["split"] == split]}) for split in (TRAIN, TEST)},
        "classes": [(str(name), int(row["train"]), int(row["test"])) for name, row in table.iterrows()],
        "most": int(table.to_numpy().max(initial=1)),
        "unlabelled": {split: int(unlabelled.get(split, 0)) for split in (TRAIN, TEST)},
        "checks": checks,
        "rejected": rejected.head(LISTED).to_dict("records"),
        "rejects": len(rejected),
        "files_rejected": clips.files_rejected,
        "warned": clip_warnings.describe(clips.index),
        "warnings": clip_warnings.by_check(clips.index),
        "skeleton": clips.skeleton,
    }


def _examples(clips: ClipStore, motions: Motions, recipe: Recipe) -> list[tuple[str, str]]:
    """(caption, SVG) of some training clips."""
    pictures = []
    for row in examples.choose(motions):
        name = examples.caption(motions, row)
        figure = examples.draw(clips, motions, recipe, row, with_title=False)
        alternative = f"{name}: as recorded, its global translation, its local motion, and an augmented copy"
        pictures.append((name, figures.svg(figure, f"motion{row}", alternative)))
    return pictures


def _curves(history: Sequence[Mapping[str, float]]) -> str:
    last = history[-1]
    shares = ", ".join(
        f"{share:.1%} over {key.rpartition('_')[2]} frames"
        for key, share in last.items()
        if key.startswith("pretrain/direction_top1/")
    )
    alternative = (
        f"Learning curves of {len(history)} epochs. Final loss {last['pretrain/loss']:.3f}; direction {shares}."
    )
    return figures.svg(figures.curves(history), "curves", alternative)


def _confusion(predictions: pd.DataFrame, classes: Sequence[str]) -> str:
    alternative = (
        f"Confusion matrix of the linear probe, {len(classes)} classes; the table of classes below has the numbers."
    )
    return figures.svg(
        figures.confusion(predictions["label"], predictions["predicted"], classes), "confusion", alternative
    )


def _paired(verdict: Mapping[str, Any]) -> str:
    new, old, baseline = verdict["only_candidate"], verdict["only_reference"], verdict["baseline"]
    alternative = f"{new} clips only the new model gets right, {old} only the {baseline}."
    return figures.svg(figures.paired(new, old, baseline), "paired", alternative)


def _versions(
    encoder_info: Mapping[str, Any], clips: ClipStore, motions: Motions, encoder: Path, classifier: Path
) -> list[tuple[str, str]]:
    return [
        ("Recordings", str(encoder_info.get("data_version", "unknown"))),
        ("Code", str(encoder_info.get("code_version", "unknown"))),
        ("MLflow run of the encoder", str(encoder_info.get("mlflow_run_id", "none"))),
        ("Clips", clips.digest),
        ("Motions", motions.digest),
        ("Encoder", artifact.digest(encoder)),
        ("Classifier", artifact.digest(classifier)),
    ]


def _sentence(reason: str) -> str:
    """The gate's reason as a sentence: without what the headline says already."""
    text = reason.removeprefix("not promoted, ").strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
