"""The data report: one self-contained HTML page about a set of recordings, for the people who recorded them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt.analysis import data_figures, figures
from glt.analysis.page import PAGE, environment, safe_links
from glt.data import balance, clip_warnings, completeness, drift, duplicates, label_account, layout_checks, splits
from glt.data.clips import ClipStore
from glt.data.drift import Summary
from glt.data.findings import Finding
from glt.data.protocols import TEST, TRAIN, UNUSED, protocol
from glt.data.rejects import RejectedExample, read_examples
from glt.data.splits import Splits
from glt.errors import GltError
from glt.recipe import Recipe
from glt.reporter import Reporter

LISTED = 200  # rows of a table
CLASSES, PAIRS, REJECTS = 12, 3, 8  # drawn
_ORDER = {"alarm": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class ClipAnalysis:
    """Results of the checks across all clips of a store.

    Attributes:
        findings: of all checks.
        pairs: duplicates, as `glt.data.duplicates.near_duplicates` returns them.
        summary: measures of the clips.
        reference: measures of the reference; None if there is none.
        splits: ``train``, ``test`` or ``unused`` for each clip; None if the protocol cannot split them.
        unsplit: the reason why they cannot be split; empty if they can.
    """

    findings: Sequence[Finding]
    pairs: pd.DataFrame
    summary: Summary
    reference: Summary | None
    splits: Splits | None
    unsplit: str = ""


def analyse_clips(
    store: ClipStore,
    recipe: Recipe,
    reporter: Reporter,
    reference: Summary | None = None,
    cache: Path | None = None,
) -> ClipAnalysis:
    """Run the checks across all clips of a store: duplicates and leaks, balance, and drift from a reference.

    With a `cache` (a file) only clips that are new since the last call are compared with the others.
    """
    assigned, unsplit = None, ""
    pairs, summary = duplicates.near_duplicates(store, reporter, cache), drift.summarise(store, reporter)
    index = store.index.assign(original=duplicates.originals(pairs, store.index))
    try:
        assigned = splits.split(index, recipe.data)["split"].to_numpy(object)
    except GltError as error:
        unsplit = str(error)
    lost = tuple(store.info.get("lost", ()))
    unmapped = f"{len(lost)} joints of the recordings are not in layout {store.skeleton.name}"
    findings = [
        *([Finding("layout", "note", unmapped, lost)] if lost else ()),
        *layout_checks.findings(store),
        *completeness.findings(store),
        *label_account.findings(store.info.get("labels")),
        *duplicates.findings(pairs, store.index, assigned),
        *balance.findings(store.index, assigned, protocol(recipe.data).column),
        *(drift.drift(summary, reference) if reference is not None else ()),
    ]
    return ClipAnalysis(findings, pairs, summary, reference, assigned, unsplit)


def write_data_report(
    out: Path, store: ClipStore, recipe: Recipe, analysis: ClipAnalysis, links: Mapping[str, str] | None = None
) -> None:
    """Write the page about `store` to `out`, atomically; `links` (title -> address) stand at its top."""
    index, skeleton = store.index, store.skeleton
    severities = [finding.severity for finding in analysis.findings]
    page = (
        environment()
        .get_template("data_report.html")
        .render(
            recipe=recipe,
            links=safe_links(links or {}),
            written=datetime.now(UTC),
            version=str(store.info.get("data_version", "unknown")),
            digest=store.digest,
            skeleton=skeleton,
            clips=len(index),
            hours=float(index["length"].sum()) / skeleton.rate / 3600,
            classes=index["label"].nunique(),
            unlabelled=int(index["label"].isna().sum()),
            subjects=index["subject"].nunique(),
            alarms=severities.count("alarm"),
            warnings=severities.count("warning"),
            findings=sorted(analysis.findings, key=lambda finding: _ORDER[finding.severity]),
            reference=0 if analysis.reference is None else sum(analysis.reference.labels.values()),
            splits=_split_sizes(analysis),
            unsplit=analysis.unsplit,
            **_duplicates(store, analysis),
            lengths=figures.svg(
                data_figures.lengths(index["length"], analysis.splits, skeleton.rate),
                "lengths",
                "Histogram of clip lengths.",
            ),
            counts=list(_counts(index)),
            measured=len(analysis.summary.measured["length"]),
            measures=figures.svg(
                data_figures.measures(analysis.summary, skeleton, analysis.reference),
                "measures",
                "Bone lengths and joint speeds, median and spread over clips.",
            ),
            examples=list(_examples(store)),
            **_rejects(store),
            account="" if store.account is None else store.account.describe(store.left_out["check"]),
            left_outs=len(store.left_out),
            left_out=store.left_out.head(LISTED).to_dict("records"),
            warned=clip_warnings.describe(index),
            clip_warnings=clip_warnings.by_check(index),
        )
    )
    PAGE.write(Path(out), page.encode())


def _split_sizes(analysis: ClipAnalysis) -> dict[str, int] | None:
    """Clips per split; None if the clips cannot be split."""
    if analysis.splits is None:
        return None
    return {split: int((analysis.splits == split).sum()) for split in (TRAIN, TEST, UNUSED)}


def _strip(
    name: str, alternative: str, frames: Any, present: Any, skeleton: Any, where: NDArray[np.bool_] | None = None
) -> str:
    return figures.svg(data_figures.strip(frames, present, skeleton, where), name, alternative)


def _duplicates(store: ClipStore, analysis: ClipAnalysis) -> dict[str, Any]:
    """Variables of the template: the pairs of duplicates, those across the splits first, and a few of them drawn."""
    row_of = {name: row for row, name in enumerate(store.index["name"])}
    labels = store.index["label"]

    def split_of(name: str) -> str:
        return "" if analysis.splits is None else str(analysis.splits[row_of[name]])

    rows = []
    for pair in analysis.pairs.to_dict("records"):
        one, other = row_of[pair["first"]], row_of[pair["second"]]
        pair_splits = split_of(pair["first"]), split_of(pair["second"])
        rows.append(
            {
                **pair,
                "split": pair_splits[0],
                "other_split": pair_splits[1],
                "label": labels[one] or "no label",
                "other_label": labels[other] or "no label",
                "across": set(pair_splits) == {TRAIN, TEST},
            }
        )
    across = [row for row in rows if row["across"]]
    odd = [row for row in rows if row["label"] != row["other_label"] and not row["across"]]
    drawn = [*across[: PAIRS - 1], *odd[: PAIRS - 1], *(row for row in rows if row["kind"] == "near")][:PAIRS]
    for index, row in enumerate(drawn):
        for key, name in (("one", row["first"]), ("other", row["second"])):
            frames, present = store.clip(row_of[name])
            row[key] = _strip(f"duplicate{index}{key}", f"Poses of {name}.", frames, present, store.skeleton)
    ordered = sorted(rows, key=lambda row: (not row["across"], row["kind"]))
    return {"duplicates": len(rows), "pairs": ordered[:LISTED], "across": len(across), "drawn": drawn}


def _counts(index: pd.DataFrame) -> Iterable[tuple[str, str]]:
    for column in ("subject", "camera"):
        if (index["label"].notna() & index[column].notna()).any():
            alternative = f"Labelled clips by class and {column}."
            yield column, figures.svg(data_figures.counts(index, column), f"counts-{column}", alternative)


def _examples(store: ClipStore) -> Iterable[tuple[str, str]]:
    """(caption, SVG) of one clip of median length for each of the first classes."""
    index = store.index
    label = index["label"].fillna("no label")
    for position, (name, rows) in enumerate(list(index.groupby(label, sort=True))[:CLASSES]):
        row = int(rows["length"].sort_values().index[len(rows) // 2])
        frames, present = store.clip(row)
        caption = f"{name}: {index['name'][row]}, {len(frames)} frames"
        yield caption, _strip(f"example{position}", f"Poses of {caption}.", frames, present, store.skeleton)


def _rejects(store: ClipStore) -> dict[str, Any]:
    rejected = store.rejected
    checks = [
        {"check": check, "count": len(rows), "source": rows["source"].iloc[0], "reason": rows["reason"].iloc[0]}
        for check, rows in sorted(rejected.groupby("check"), key=lambda item: -len(item[1]))
    ]
    read = [
        e for segment in store.info["segments"] for e in read_examples(store.path / "segments" / segment / "rejected")
    ]
    drawable = [example for example in read if example.present.any()]
    first = list({example.check: example for example in reversed(drawable)}.values())[::-1]  # one per check, then more
    chosen = [*first, *(example for example in drawable if all(example is not one for one in first))][:REJECTS]
    return {
        "rejects": len(rejected),
        "files_rejected": store.files_rejected,
        "checks": checks,
        "listed": rejected.head(LISTED).to_dict("records"),
        "rejected": [
            {"check": e.check, "reason": e.reason, "source": e.source, "picture": _draw_reject(index, e)}
            for index, e in enumerate(chosen)
        ],
    }


def _draw_reject(index: int, example: RejectedExample) -> str:
    alternative = f"Poses of {example.source}; what failed is ringed."
    ringed = example.where & example.present[:, :, None]
    return _strip(f"reject{index}", alternative, example.frames, example.present, example.skeleton, ringed)
