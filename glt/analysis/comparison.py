"""Two models on one page: what each scores, where they differ, and what was changed between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from glt.analysis import figures
from glt.analysis.page import PAGE, environment
from glt.analysis.scores import per_class
from glt.recipe import flat

# key in MLflow -> what people call it, in the order of the page
SCORES = {
    "probe/top1": "linear probe",
    "probe/top1_clean": "linear probe, clips without a duplicate in training",
    "probe/val_top1": "linear probe, validation",
    "probe/untrained_top1": "the same probe, untrained encoder",
    "knn/top1": "nearest neighbour",
}

# Scores whose clips depend on the training clips, and so on the data version.
_OF_TRAINING_CLIPS = frozenset({"probe/top1_clean", "probe/val_top1"})
_SPLIT = ("fold", "held", "test_share", "split_seed", "column", "test_values", "given")
UNKNOWN = frozenset({"", "unknown", "deleted"})  # values of the provenance that never count as equal


@dataclass(frozen=True)
class Model:
    """A registered model version, as the page shows it.

    Attributes:
        name: ``name/version``, with its aliases.
        scores: by their keys in MLflow.
        predictions: of the test clips: name, label, predicted.
        recipe: its settings.
        provenance: data version, code version, run, ... by title.
        files: what its data version pins, MD5 by name; None if that is not known here.
        classes: classes that it can predict; empty if unknown.
        skeleton: layout of its clips, as in its config.json; empty if unknown.
        fractions: labelled fractions that were fine-tuned, such as ``5 %``; those with the same clips count as one.
    """

    name: str
    scores: Mapping[str, float]
    predictions: pd.DataFrame
    recipe: Mapping[str, Any]
    provenance: Mapping[str, str]
    files: Mapping[str, str] | None = None
    classes: Sequence[str] = ()
    skeleton: Mapping[str, Any] = field(default_factory=dict)
    fractions: Sequence[str] = ()


def write_comparison(out: Path, first: Model, second: Model) -> None:
    """Write the page to `out`, atomically: one HTML file that needs nothing else."""
    both = first.predictions.merge(second.predictions, on=["name", "label"], suffixes=("_1", "_2"))
    tables = [both[["label", f"predicted_{n}"]].rename(columns={f"predicted_{n}": "predicted"}) for n in (1, 2)]
    right = [table["label"] == table["predicted"] for table in tables]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    classes = sorted({*both["label"], *both["predicted_1"], *both["predicted_2"]})
    models = (first, second)
    differences = list(_differences(first, second, len(both)))
    comparable = not any(decisive for _, decisive in differences)
    page = (
        environment()
        .get_template("comparison.html")
        .render(
            models=models,
            written=datetime.now(UTC),
            scores=_scores(models, comparable),
            clips=len(both),
            differences=differences,
            comparable=comparable,
            unshared=[len(model.predictions) - len(both) for model in models],
            paired=figures.svg(
                figures.paired(*only, second.name, first.name),
                "paired",
                f"{only[0]} clips only {first.name} gets right, {only[1]} only {second.name}.",
            )
            if len(both)
            else "",
            recalls=_recalls(tables, models) if len(both) else "",
            confusions=[
                (model.name, _confusion(table, classes, index, model.name))
                for index, (model, table) in enumerate(zip(models, tables, strict=True))
                if len(both)
            ],
            settings=_changed(flat(first.recipe), flat(second.recipe)),
            provenance=_changed(first.provenance, second.provenance),
            recipes_known=bool(first.recipe and second.recipe),
            same=[
                title
                for title, value in first.provenance.items()
                if second.provenance.get(title) == value and value not in UNKNOWN
            ],
            files=_files(first.files, second.files),
        )
    )
    PAGE.write(Path(out), page.encode())


def _differences(first: Model, second: Model, both: int) -> Iterator[tuple[str, bool]]:
    """Differences of two models as sentences, each with True if it rules out subtracting their scores."""
    data = [model.provenance.get("data", "unknown") for model in (first, second)]
    if UNKNOWN & set(data):
        yield "It is not known whether both were trained on the same data version.", False
    elif data[0] != data[1]:
        yield f"The data versions differ: {data[0]} and {data[1]}.", False
    protocols = [_protocol(model.recipe) for model in (first, second)]
    if protocols[0] != protocols[1]:
        yield f"The protocols differ: {protocols[0]} and {protocols[1]}.", True
    if first.skeleton != second.skeleton:
        yield f"The layouts differ: {_layout(first.skeleton)} and {_layout(second.skeleton)}.", True
    if set(first.classes) != set(second.classes):
        only = [sorted(set(a) - set(b)) for a, b in ((first.classes, second.classes), (second.classes, first.classes))]
        parts = [
            f"{len(names)} only in the {which} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
            for which, names in zip(("first", "second"), only, strict=True)
            if names
        ]
        yield f"The classes differ: {'; '.join(parts)}.", True
    if list(first.fractions) != list(second.fractions):
        texts = [", ".join(model.fractions) or "none" for model in (first, second)]
        yield f"The labelled fractions differ: {texts[0]} and {texts[1]}.", False
    if not both == len(first.predictions) == len(second.predictions):
        yield "The two were tested on different clips, or on clips with other labels.", True


def _layout(skeleton: Mapping[str, Any]) -> str:
    if not skeleton:
        return "unknown"
    return f"{skeleton.get('name', 'unnamed')} of {len(skeleton.get('joints', ()))} joints"


def _protocol(recipe: Mapping[str, Any]) -> str:
    """The data set and the protocol of a recipe, and the fields that choose its splits."""
    data = recipe.get("data", {})
    fields = [f"{name} {data[name]}" for name in _SPLIT if data.get(name) not in (None, "", [], ())]
    name = f"{data.get('dataset', '')} {data.get('protocol', 'unknown')}".strip()
    return f"{name} ({', '.join(fields)})" if fields else name


def _scores(models: Sequence[Model], comparable: bool) -> list[tuple[str, list[float | None], bool]]:
    """(title, values, True if they may be subtracted) of each score that either model has."""
    data = {model.provenance.get("data", "unknown") for model in models}
    same_data = len(data) == 1 and not data & UNKNOWN

    def is_fair(key: str) -> bool:
        if not comparable:
            return False
        if key in _OF_TRAINING_CLIPS and not same_data:
            return False
        labelled = key.replace("top1_mean", "labelled_mean")
        return labelled == key or models[0].scores.get(labelled) == models[1].scores.get(labelled)

    known = {*models[0].scores, *models[1].scores}
    few = sorted(key for key in known if key.startswith("finetune/") and key.endswith("/top1_mean"))
    titles = SCORES | {key: f"fine-tuned on {_percent(key)} of the labels" for key in few}
    return [
        (title, [model.scores.get(key) for model in models], is_fair(key))
        for key, title in titles.items()
        if key in known
    ]


def fractions(scores: Mapping[str, float]) -> list[str]:
    """The labelled fractions that a run fine-tuned on, by its scores."""
    return sorted({_percent(key) for key in scores if key.startswith("finetune/") and key.endswith("/top1_mean")})


def _percent(key: str) -> str:
    """The labelled fraction of a score's key, as ``finetune/05pct/top1_mean``."""
    return f"{key.split('/')[1].removesuffix('pct').lstrip('0').replace('p', '.')} %"


def _recalls(tables: Sequence[pd.DataFrame], models: Sequence[Model]) -> str:
    shares = [per_class(table).set_index("label")["share"] for table in tables]
    table = pd.DataFrame({"one": shares[0], "two": shares[1]})
    table = table.reindex((table["two"] - table["one"]).sort_values(kind="stable").index)
    drawn = figures.recalls(
        table.index.tolist(), table["one"].tolist(), table["two"].tolist(), [m.name for m in models]
    )
    return figures.svg(drawn, "recalls", "Recall of each class by both models, the largest loss first.")


def _confusion(table: pd.DataFrame, classes: Sequence[str], index: int, name: str) -> str:
    drawn = figures.confusion(table["label"], table["predicted"], classes)
    return figures.svg(drawn, f"confusion{index}", f"Confusion matrix of {name}.")


def _changed(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value of the first, value of the second) where they differ."""
    names = [*one, *(name for name in two if name not in one)]
    return [(n, str(one.get(n, "–")), str(two.get(n, "–"))) for n in names if one.get(n) != two.get(n)]


def _files(one: Mapping[str, str] | None, two: Mapping[str, str] | None) -> dict[str, list[str]] | None:
    """Archives and top-level folders with pinned files that only one data version has, or that differ."""
    if one is None or two is None:
        return None
    came, gone = ({name.split("/")[0] for name in set(a) - set(b)} for a, b in ((two, one), (one, two)))
    changed = {name for name in set(one) & set(two) if one[name] != two[name]}
    kinds = {"only in the second": came, "only in the first": gone, "with another content": changed}
    return {kind: sorted(name for name in names if not name.startswith(".")) for kind, names in kinds.items()}
