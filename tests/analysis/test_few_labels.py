"""Labelled fractions that are the same clips are one result."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from glt import artifact
from glt.analysis import few_labels
from glt.analysis.scores import summary
from glt.data import labelled_fractions

from .conftest import Run
from .test_report import page


def tuned(folder: Path, fraction: float, seed: int, names: list[str] | None) -> Path:
    path = folder / f"{fraction}-{seed}"
    with artifact.create(path, "classifier", {"fraction": fraction, "seed": seed}) as draft:
        artifact.write_json(draft / "metrics.json", {"top1": 0.5, "top1_clean": 0.4, "labelled": 3})
        if names is not None:
            pd.DataFrame({"name": names}).to_parquet(draft / "labelled.parquet")
    return path


def drawn(folder: Path, per_class: int) -> list[Path]:
    """Classifiers for 5, 10 and 50 %, two seeds, of two classes with this many clips each."""
    names = [f"{label}{n}" for label in "ab" for n in range(per_class)]
    index = pd.DataFrame({"name": names, "label": [name[0] for name in names], "split": "train"})
    return [
        tuned(folder, fraction, seed, [names[row] for row in labelled_fractions.draw(index, fraction, seed)])
        for fraction in (0.5, 0.1, 0.05)
        for seed in (0, 1)
    ]


@pytest.mark.fault("two labelled fractions (5 % and 10 %) that select the same clips", "one result, with one note")
@pytest.mark.parametrize(
    ("per_class", "fractions", "note"),
    [
        (1, [0.05], "5 %, 10 % and 50 % of the labels are the same 2 clips"),
        (10, [0.05, 0.5], "5 % and 10 % of the labels are the same 2 clips"),
        (40, [0.05, 0.1, 0.5], ""),
    ],
)
def test_the_same_clips_are_one_result(tmp_path: Path, per_class: int, fractions: list[float], note: str) -> None:
    known = few_labels.read(drawn(tmp_path, per_class))
    assert sorted({fraction for fraction, _, _ in known.results}) == fractions
    assert known.note.startswith(note)
    assert bool(known.note) == bool(note)
    assert ("finetune/10pct/top1_mean" in summary({}, known.results)) == (0.1 in fractions)


def test_unknown_and_other_clips_are_results_of_their_own(tmp_path: Path) -> None:
    older = [tuned(tmp_path, fraction, 0, None) for fraction in (0.05, 0.1)]
    other = [tuned(tmp_path, fraction, seed, [f"c{seed}"]) for fraction, seed in ((0.2, 0), (0.3, 1))]
    known = few_labels.read([*older, *other])
    assert not known.note
    assert len(known.results) == 4


def test_the_page_has_one_row(run: Run, tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", run, finetunes=drawn(tmp_path, 10)).text
    assert "fine-tuned on 5 % and 10 % of the labels" in text
    assert text.count("the same 2 clips") == 1
    assert "fine-tuned on 10 %" not in text
