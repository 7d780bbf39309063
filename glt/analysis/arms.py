"""The arms of a study side by side: a table with one row per arm, a figure, and a page with both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from glt.analysis.figures import INK, MUTED, SERIES, styled, svg
from glt.analysis.page import PAGE, environment, safe_links

PROBE = "probe/"


@dataclass(frozen=True)
class TrainedArm:
    """An arm trained with one seed, and its metrics under their fixed keys."""

    arm: str
    seed: int
    metrics: Mapping[str, float]

    @property
    def scores(self) -> dict[str, float]:
        """The scores of linear evaluation, by their metric key without the prefix ``probe/``."""
        return {key.removeprefix(PROBE): value for key, value in self.metrics.items() if key.startswith(PROBE)}


def table(runs: Sequence[TrainedArm]) -> pd.DataFrame:
    """One row per arm, in the order given: arm, seeds, and ``<score>_mean`` and ``<score>_sd`` of each score."""
    rows = pd.DataFrame([{"arm": one.arm, **one.scores} for one in runs])
    grouped = rows.groupby("arm", sort=False)
    means, spreads = grouped.mean().add_suffix("_mean"), grouped.std(ddof=1).add_suffix("_sd")
    names = [f"{score}{end}" for score in rows.columns.drop("arm") for end in ("_mean", "_sd")]
    return pd.concat([grouped.size().rename("seeds"), means.join(spreads)[names]], axis=1).reset_index()


def write_page(out: Path, study: str, runs: Sequence[TrainedArm], links: Mapping[str, str] | None = None) -> None:
    """Write an HTML page with table and figure to `out`, atomically; `links` (title -> address) stand at its top."""
    rows = table(runs)
    scores = [str(name).removesuffix("_mean") for name in rows if str(name).endswith("_mean")]
    alternative = f"Linear evaluation of {len(rows)} arms; the table below has the numbers."
    page = (
        environment()
        .get_template("arms.html")
        .render(
            study=study,
            links=safe_links(links or {}),
            written=datetime.now(UTC),
            rows=rows.to_dict("records"),
            scores=scores,
            picture=svg(picture(runs), "arms", alternative),
        )
    )
    PAGE.write(Path(out), page.encode())


@styled
def picture(runs: Sequence[TrainedArm]) -> Figure:
    """One line per arm: test score of each seed (dots) and their mean (bar); dashed, the mean before pretraining."""
    arms = list(dict.fromkeys(one.arm for one in runs))
    figure = Figure(figsize=(6.4, 0.9 + 0.28 * len(arms)))
    ax = figure.subplots()
    for row, arm in enumerate(arms):
        values = [one.scores["top1"] for one in runs if one.arm == arm]
        mean = sum(values) / len(values)
        ax.plot(values, [row] * len(values), "o", ms=4.5, color=SERIES[0], alpha=0.55, mew=0)
        ax.plot([mean, mean], [row - 0.3, row + 0.3], color=INK, lw=1.6)
        ax.annotate(
            f"{100 * mean:.1f}", (1.01, row), xycoords=("axes fraction", "data"), va="center", color=INK, fontsize=8.5
        )
    floor = [one.scores["untrained_top1"] for one in runs if "untrained_top1" in one.scores]
    if floor:
        level = sum(floor) / len(floor)
        ax.axvline(level, color=MUTED, lw=1, ls="--")
        ax.annotate(
            "before pretraining", (level, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), ha="center",
            textcoords="offset points", color=MUTED, fontsize=8,
        )  # fmt: skip
    ax.set_yticks(range(len(arms)), arms)
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("linear evaluation, top-1 on the test split")
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    return figure
