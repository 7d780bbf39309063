"""The card of a model: what it says, and that nothing from outside becomes markup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glt import artifact
from glt.analysis.model_card import LONGEST, model_card
from glt.data.layouts import NTU25

VERDICT: dict[str, Any] = {
    "passed": False,
    "already": False,
    "reason": "not promoted, wave <b>worse</b>",
    "checks": [{"name": "classes", "passed": False, "message": "wave | lost 20 points"}],
}


def classifier(folder: Path, classes: Sequence[str] = ("sit", "wave"), **changed: Any) -> Path:
    """A folder with the files that the card is made of: 464 test clips, of which 95 equal training clips."""
    rows = 464
    label = [classes[i % len(classes)] for i in range(rows)]
    table = pd.DataFrame({"name": [f"c{i}" for i in range(rows)], "label": label, "predicted": label})
    table.loc[table.index % 4 == 1, "predicted"] = classes[0]
    table = table.assign(clean=np.arange(rows) >= 95, subject=np.arange(rows) % 10, camera=3).assign(**changed)
    folder.mkdir()
    table.to_parquet(folder / "predictions.parquet")
    skeleton = NTU25.to_dict()
    data = {"dataset": "nw-ucla", "protocol": "cross-view"}
    config = {"classes": list(classes), "skeleton": skeleton, "encoder": {"persons": 1}, "recipe": {"data": data}}
    artifact.write_json(folder / "config.json", config)
    scores = {"probe/top1": 0.75, "knn/top1": 0.5, "knn/top1_clean": 0.25, "probe/val_top1": 0.8}
    artifact.write_json(folder / "metrics.json", scores)
    return folder


def test_the_card_has_use_classes_leak_scores_groups_gate_and_limits(tmp_path: Path) -> None:
    card = model_card(classifier(tmp_path / "c"), "glt-nw-ucla", VERDICT, {"Data version": "0123abc"})
    titles = [line for line in card.splitlines() if line.startswith("#")]
    assert titles == [
        "# glt-nw-ucla",
        *("## Intended use", "## Classes", "## Data", "## Scores"),
        *("### By class", "### By subject", "## Gate", "## Limits"),
    ]
    assert "2: sit, wave" in card
    assert "**Leak:** 95 of the 464 test clips equal a training clip, bit for bit." in card
    assert "- Data version: 0123abc" in card
    assert "| This model | 75.0 % (70.9 – 78.7) | 75.1 % (70.4 – 79.2) |" in card
    assert "| Nearest neighbour | 50.0 % (45.5 – 54.5) | 24.9 % (20.8 – 29.6) |" in card
    assert "| wave | 50.0 % (43.6 – 56.4) | 116 of 232 |" in card
    assert card.index("| wave |") < card.index("| sit |")  # the weakest first
    assert "Not passed: not promoted, wave &#60;b&#62;worse" in card
    assert "- classes: **no**, wave &#124; lost 20 points" in card
    assert "The test clips show 10 subjects and 1 camera." in card


def test_without_a_leak_there_is_one_score(tmp_path: Path) -> None:
    card = model_card(classifier(tmp_path / "c", clean=True), "m")
    assert "No test clip equals a training clip." in card
    assert "Clean" not in card
    assert "## Gate" not in card


def test_a_card_of_a_model_of_an_earlier_version_has_no_groups(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "c")
    table = pd.read_parquet(folder / "predictions.parquet").drop(columns=["subject", "camera"])
    table.to_parquet(folder / "predictions.parquet")
    card = model_card(folder, "m")
    assert "### By class" in card
    assert "### By subject" not in card
    assert "### By camera" not in card


@pytest.mark.parametrize("longest", [LONGEST, 2500, 300])
def test_a_card_of_many_classes_with_long_names_is_short_enough(tmp_path: Path, longest: int) -> None:
    classes = [f"class {i} {'<|*_`' * 100}" for i in range(120)]
    card = model_card(classifier(tmp_path / "c", classes), "m" * 5000, VERDICT, {"Path": "p" * 9000}, longest)
    assert len(card) <= longest
    assert card.startswith("# mmm")
    if longest == LONGEST:
        assert "## Limits" in card


def test_names_of_classes_are_no_markup(tmp_path: Path) -> None:
    hostile = ["<script>alert(1)</script>", "[a](javascript:b)", "a|b\n# c", "![x](http://e/x.png)", "`**"]
    card = model_card(classifier(tmp_path / "c", hostile), "<m>")
    assert [one for one in ("<", "](", "![", "\n# c", "`", "http:") if one in card] == []
    assert {line.count("|") for line in card.split("### By class")[1].split("###")[0].splitlines() if line} == {4}
