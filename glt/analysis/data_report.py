"""The report of a set of recordings: one self-contained HTML page for those who bring them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt.analysis import data_figures, figures
from glt.analysis.page import PAGE, environment
from glt.data import balance, drift, duplicates, splits
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
class Look:
    """What was found in a store.

    Attributes:
        findings: of all checks across recordings.
        pairs: duplicates, as `glt.data.duplicates.near_duplicates` returns them.
        summary: what was measured of the clips.
        reference: the same of those they were compared with, if they were.
        splits: ``train``, ``test`` or ``unused`` for each clip; None if the protocol cannot split them.
        unsplit: why not.
    """

    findings: Sequence[Finding]
    pairs: pd.DataFrame
    summary: Summary
    reference: Summary | None
    splits: Splits | None
    unsplit: str = ""


def look(
    store: ClipStore,
    recipe: Recipe,
    reporter: Reporter,
    reference: Summary | None = None,
    cache: Path | None = None,
) -> Look:
    """Run the checks across all clips of a store: duplicates and leaks, balance, and drift from a reference.

    With a `cache` (a file) only clips that are new since the last call are compared with the others.
    """
    assigned, unsplit = None, ""
    try:
        assigned = splits.split(store.index, recipe.data)["split"].to_numpy(object)
    except GltError as error:
        unsplit = str(error)
    pairs, summary = duplicates.near_duplicates(store, reporter, cache), drift.summarise(store, reporter)
    lost = tuple(store.info.get("lost", ()))
    away = f"{len(lost)} joints of the recordings have no place in layout {store.skeleton.name}"
    findings = [
        *([Finding("layout", "note", away, lost)] if lost else ()),
        *duplicates.findings(pairs, store.index, assigned),
        *balance.findings(store.index, assigned, protocol(recipe.data).column),
        *(drift.drift(summary, reference) if reference is not None else ()),
    ]
    return Look(findings, pairs, summary, reference, assigned, unsplit)


def write_data_report(out: Path, store: ClipStore, recipe: Recipe, look: Look) -> None:
    """Write the page on `store` to `out`, atomically."""
    index, skeleton = store.index, store.skeleton
    severities = [finding.severity for finding in look.findings]
    page = (
        environment()
        .get_template("data_report.html")
        .render(
            recipe=recipe,
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
            findings=sorted(look.findings, key=lambda finding: _ORDER[finding.severity]),
            reference=0 if look.reference is None else sum(look.reference.labels.values()),
            splits=_split_sizes(look),
            unsplit=look.unsplit,
            **_duplicates(store, look),
            lengths=figures.svg(
                data_figures.lengths(index["length"], look.splits, skeleton.rate),
                "lengths",
                "Histogram of clip lengths.",
            ),
            counts=list(_counts(index)),
            measured=len(look.summary.measured["length"]),
            measures=figures.svg(
                data_figures.measures(look.summary, skeleton, look.reference),
                "measures",
                "Bone lengths and joint speeds, median and spread over clips.",
            ),
            examples=list(_examples(store)),
            **_rejects(store),
            warned=_warned(index),
        )
    )
    PAGE.write(Path(out), page.encode())


def _split_sizes(look: Look) -> dict[str, int] | None:
    """Clips per split; None if the clips cannot be split."""
    if look.splits is None:
        return None
    return {split: int((look.splits == split).sum()) for split in (TRAIN, TEST, UNUSED)}


def _strip(
    name: str, said: str, frames: Any, present: Any, skeleton: Any, where: NDArray[np.bool_] | None = None
) -> str:
    return figures.svg(data_figures.strip(frames, present, skeleton, where), name, said)


def _duplicates(store: ClipStore, look: Look) -> dict[str, Any]:
    """The pairs, those across the split first, and a few of them drawn."""
    place = {name: row for row, name in enumerate(store.index["name"])}
    labels = store.index["label"]

    def split_of(name: str) -> str:
        return "" if look.splits is None else str(look.splits[place[name]])

    rows = []
    for pair in look.pairs.to_dict("records"):
        one, other = place[pair["first"]], place[pair["second"]]
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
    for number, row in enumerate(drawn):
        for key, name in (("one", row["first"]), ("other", row["second"])):
            frames, present = store.clip(place[name])
            row[key] = _strip(f"duplicate{number}{key}", f"Poses of {name}.", frames, present, store.skeleton)
    ordered = sorted(rows, key=lambda row: (not row["across"], row["kind"]))
    return {"duplicates": len(rows), "pairs": ordered[:LISTED], "across": len(across), "drawn": drawn}


def _counts(index: pd.DataFrame) -> Iterable[tuple[str, str]]:
    for column in ("subject", "camera"):
        if (index["label"].notna() & index[column].notna()).any():
            said = f"Labelled clips by class and {column}."
            yield column, figures.svg(data_figures.counts(index, column), f"counts-{column}", said)


def _examples(store: ClipStore) -> Iterable[tuple[str, str]]:
    """One clip of each of the first classes, of middle length."""
    index = store.index
    label = index["label"].fillna("no label")
    for number, (name, rows) in enumerate(list(index.groupby(label, sort=True))[:CLASSES]):
        row = int(rows["length"].sort_values().index[len(rows) // 2])
        frames, present = store.clip(row)
        caption = f"{name}: {index['name'][row]}, {len(frames)} frames"
        yield caption, _strip(f"example{number}", f"Poses of {caption}.", frames, present, store.skeleton)


def _rejects(store: ClipStore) -> dict[str, Any]:
    rejected = store.rejected
    checks = [
        {"check": check, "count": len(rows), "source": rows["source"].iloc[0], "reason": rows["reason"].iloc[0]}
        for check, rows in sorted(rejected.groupby("check"), key=lambda item: -len(item[1]))
    ]
    kept = [
        e for segment in store.info["segments"] for e in read_examples(store.path / "segments" / segment / "rejected")
    ]
    kept = [example for example in kept if example.present.any()]
    first = list({example.check: example for example in reversed(kept)}.values())[::-1]  # one of every check, then more
    chosen = [*first, *(example for example in kept if all(example is not one for one in first))][:REJECTS]
    return {
        "rejects": len(rejected),
        "checks": checks,
        "listed": rejected.head(LISTED).to_dict("records"),
        "rejected": [
            {"check": e.check, "reason": e.reason, "source": e.source, "picture": _drawn(number, e)}
            for number, e in enumerate(chosen)
        ],
    }


def _drawn(number: int, example: RejectedExample) -> str:
    said = f"Poses of {example.source}; what failed is ringed."
    shown = example.where & example.present[:, :, None]
    return _strip(f"reject{number}", said, example.frames, example.present, example.skeleton, shown)


def _warned(index: pd.DataFrame) -> list[dict[str, Any]]:
    """Warnings by check, the commonest first."""
    texts = index.loc[index["warnings"] != "", ["name", "warnings"]]
    texts = texts.assign(text=texts["warnings"].str.split("; ")).explode("text")
    checks = texts["text"].str.split(":").str[0]
    rows = [
        {"check": check, "count": len(of), "name": of["name"].iloc[0], "text": of["text"].iloc[0].partition(": ")[2]}
        for check, of in texts.groupby(checks)
    ]
    return sorted(rows, key=lambda row: -row["count"])
