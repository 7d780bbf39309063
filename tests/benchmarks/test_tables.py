from __future__ import annotations

from typing import Any

from benchmarks import tables


def row(seed: int, top1: float, recipe: str = "nw-ucla", task: str = "linear", **more: Any) -> dict[str, Any]:
    return {"recipe": recipe, "task": task, "labelled_fraction": 1.0, "seed": seed, "top1": top1, **more}


def test_the_pages_hold_what_the_results_say() -> None:
    rows = tables.results()
    for name in tables.PAGES:
        page = (tables.ROOT / name).read_text(encoding="utf-8")
        assert tables.written(page, rows) == page, "run python -m benchmarks.tables"


def test_a_cell_is_the_mean_over_seeds_and_their_deviation() -> None:
    rows = [row(0, 0.90), row(1, 0.92), row(1, 0.10, task="knn"), row(1, 0.10, recipe="other")]
    assert tables.cell(rows, ("nw-ucla", "linear", 1.0, "top1")) == "91.0 ± 1.4 (2)"
    assert tables.cell(rows[:1], ("nw-ucla", "linear", 1.0, "top1")) == "90.0 (1)"
    assert tables.cell(rows, ("nw-ucla", "linear", 1.0, "top1_clean")) == "-"
    assert tables.cell(rows, "74.3") == "74.3"


def test_of_folds_a_seed_counts_when_all_are_there() -> None:
    rows = [row(seed, 0.5 + 0.1 * fold, "sbu", fold=fold) for seed in (0, 1) for fold in range(1, 6)]
    assert tables.cell(rows[:-1], ("sbu", "linear", 1.0, "top1")) == "80.0 (1)"


def test_a_marked_table_is_made_anew_and_the_rest_stays() -> None:
    page = "a\n<!-- table: sbu -->\nold\n<!-- end -->\nb\n"
    made = tables.written(page, [row(0, 0.5, "sbu", fold=fold) for fold in range(1, 6)])
    assert made.startswith("a\n<!-- table: sbu -->\n| SBU, 5 folds | all 282 |")
    assert "| linear evaluation | 50.0 (1) |" in made
    assert made.endswith("\n<!-- end -->\nb\n")
    assert tables.written(made, []) != made
