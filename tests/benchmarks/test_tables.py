from __future__ import annotations

from typing import Any

from docs.make import tables
from docs.make.tables import Score
from glt.recipe import study


def row(seed: int, top1: float, recipe: str = "nw-ucla", task: str = "linear", **more: Any) -> dict[str, Any]:
    return {"recipe": recipe, "task": task, "labelled_fraction": 1.0, "seed": seed, "top1": top1, **more}


def test_the_pages_hold_what_the_results_say() -> None:
    rows = tables.results()
    for name in tables.PAGES:
        page = (tables.ROOT / name).read_text(encoding="utf-8")
        assert tables.written(page, rows) == page, "run python -m docs.make.tables"


def test_a_cell_is_the_mean_over_seeds_and_their_deviation() -> None:
    rows = [row(0, 0.90), row(1, 0.92), row(1, 0.10, task="knn"), row(1, 0.10, recipe="other")]
    assert tables.cell(rows, Score("nw-ucla")) == "91.0 ± 1.4 (2)"
    assert tables.cell(rows[:1], Score("nw-ucla")) == "90.0 (1)"
    assert tables.cell(rows, Score("nw-ucla", score="top1_clean")) == "-"
    assert tables.cell(rows, "74.3") == "74.3"


def test_of_folds_a_seed_counts_when_all_are_there() -> None:
    rows = [row(seed, 0.5 + 0.1 * fold, "sbu", fold=fold) for seed in (0, 1) for fold in range(1, 6)]
    assert tables.cell(rows[:-1], Score("sbu")) == "80.0 (1)"


def test_a_marked_table_is_made_anew_and_the_rest_stays() -> None:
    page = "a\n<!-- table: sbu -->\nold\n<!-- end -->\nb\n"
    made = tables.written(page, [row(0, 0.5, "sbu", fold=fold) for fold in range(1, 6)])
    assert made.startswith("a\n<!-- table: sbu -->\n| SBU, 5 folds | all 282 |")
    assert "| linear evaluation | 50.0 (1) |" in made
    assert made.endswith("\n<!-- end -->\nb\n")
    assert tables.written(made, []) != made


def test_empty_marks_are_filled_each_with_its_own_table() -> None:
    page = "<!-- table: sbu -->\n<!-- end -->\nbetween\n<!-- table: table-1 -->\n<!-- end -->\n"
    made = tables.written(page, [row(0, 0.8, "nw-ucla-ablation", arm="full")])
    assert made.startswith(
        "<!-- table: sbu -->\nNot measured yet.\n<!-- end -->\nbetween\n<!-- table: table-1 -->\n| Table 1"
    )
    assert tables.written(made, [row(0, 0.8, "nw-ucla-ablation", arm="full")]) == made


def test_an_arm_s_scores_are_its_own() -> None:
    rows = [row(0, 0.8, "nw-ucla-ablation", arm="full"), row(0, 0.7, "nw-ucla-ablation", arm="mixed")]
    assert tables.cell(rows, Score("nw-ucla-ablation", arm="full")) == "80.0 (1)"
    assert tables.cell(rows, Score("nw-ucla-ablation")) == "-"
    assert "| (6) over 1, 5 and 10 | 76.3 | 83.8 | 80.0 (1) | - | - |" in tables.table("table-1", rows)


def test_every_arm_of_a_study_stands_in_its_table() -> None:
    for name in study.names():
        for title, arms in study.load(name).tables.items():
            made = tables.TABLES["persons" if title.endswith("persons") else title][1]()
            shown = [cell.arm for _, cells in made for cell in cells if isinstance(cell, Score)]
            assert list(dict.fromkeys(shown)) == list(arms), title
