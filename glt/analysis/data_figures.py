"""Figures of a set of recordings: lengths, classes and subjects, bones and speeds, recordings as strips of poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glt.analysis.figures import INK, LINE, MUTED, SERIES, drawn_bones, styled, view
from glt.data.drift import Summary
from glt.data.layouts import Skeleton
from glt.data.protocols import TEST, TRAIN, UNUSED
from glt.data.splits import Splits

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

FAULT = SERIES[1]  # what is wrong; a ring too, so that colour is not all there is
MOMENTS = 9  # poses of a strip


@styled
def lengths(frames: pd.Series, splits: Splits | None, rate: float) -> Figure:
    """Histogram of clip lengths by split, in frames (lower axis) and seconds (upper axis)."""
    figure = Figure(figsize=(8.5, 2.6), layout="constrained")
    ax = figure.subplots()
    groups = {"all": frames}
    if splits is not None:
        groups = {split: frames[splits == split] for split in (TRAIN, TEST, UNUSED) if (splits == split).any()}
    bins = np.histogram_bin_edges(frames, bins=min(60, max(5, int(np.sqrt(len(frames))))))
    ax.hist(list(groups.values()), bins=list(bins), stacked=True, color=list(SERIES[: len(groups)]), label=list(groups))
    ax.set_xlabel("frames")
    ax.set_ylabel("clips")
    ax.set_xlim(left=0)
    if len(groups) > 1:
        ax.legend(frameon=False)
    seconds = ax.secondary_xaxis("top", functions=(lambda x: np.asarray(x) / rate, lambda x: np.asarray(x) * rate))
    seconds.set_xlabel("seconds")
    return figure


@styled
def counts(index: pd.DataFrame, column: str) -> Figure:
    """Labelled clips of every class (down) and value of `column` (across); an empty cell has none."""
    labelled = index[index["label"].notna() & index[column].notna()]
    table = pd.crosstab(labelled["label"], labelled[column])
    classes, values = table.shape
    cell = float(np.clip(7.5 / max(values, 1), 0.075, 0.42))
    tall = float(np.clip(0.2, 10.0 / max(classes, 1), 0.24)) if classes > 45 else 0.22
    figure = Figure(figsize=(2.4 + cell * values + 0.9, 1.0 + tall * classes), layout="constrained")
    ax = figure.subplots()
    shades = LinearSegmentedColormap.from_list("counts", ["#dbe7f4", SERIES[0]])
    image = ax.imshow(
        np.ma.masked_equal(table.to_numpy(), 0), aspect="auto", cmap=shades, vmin=0, interpolation="nearest"
    )
    names = [str(name) if len(str(name)) <= 26 else f"{str(name)[:25]}…" for name in table.index]
    ax.set_yticks(range(classes), names, fontsize=8.5 if classes <= 45 else 5.5)
    every = max(1, values // 40)
    ax.set_xticks(range(0, values, every), [str(value) for value in table.columns[::every]], fontsize=8)
    ax.set_xlabel(column)
    ax.tick_params(length=0)
    if table.size <= 400:
        most = table.to_numpy().max(initial=1)
        for row, column_index in np.argwhere(table.to_numpy()):
            count = int(table.to_numpy()[row, column_index])
            ax.text(
                column_index,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if count > 0.6 * most else INK,
            )
    else:
        figure.colorbar(image, ax=ax, label="clips", shrink=min(1.0, 3 / max(1.0, tall * classes)))
    ax.spines[:].set_visible(False)
    return figure


@styled
def measures(summary: Summary, skeleton: Skeleton, reference: Summary | None = None) -> Figure:
    """Bone lengths and joint speeds: the median clip, and from the 5th to the 95th percentile of clips."""
    bones = [name for name in summary.measured if name.startswith("bone/")]
    speeds = [name for name in summary.measured if name.startswith("speed/")]
    rows = max(len(bones), len(speeds))
    figure = Figure(figsize=(11, 0.9 + 0.19 * rows), layout="constrained")
    left, right = figure.subplots(1, 2)
    unit = skeleton.unit if skeleton.unit == "m" else f"{skeleton.unit}s"
    _spread(left, summary, bones, f"bone length, {unit}", reference)
    _spread(right, summary, speeds, f"mean speed of a joint, {unit} a second", reference)
    return figure


@styled
def strip(
    frames: Floats, present: Bools, skeleton: Skeleton, where: Bools | None = None, moments: int = MOMENTS
) -> Figure:
    """A recording as a row of poses in time, one colour per person; the points at `where` are ringed.

    Args:
        frames: [T, P, K, 3]; NaN and infinite points are left out, and if ringed, shown where the centre is.
        present: [T, P].
        skeleton: the layout.
        where: [T, P, K], the points to point at; the frames with some are among those drawn.
        moments: how many poses.
    """
    sane = np.asarray(np.isfinite(frames).all(axis=3))
    chosen = _moments(present, where, moments)
    points = np.where(sane[..., None], frames, 0).astype(np.float64)
    people = np.flatnonzero(present.any(axis=0))
    camera = view(np.where(sane[..., None], frames, 0), present, skeleton) if len(people) else np.eye(2, 3)
    seen = points @ camera.T  # T, P, K, 2
    middle, reach = _frame(seen, present, sane, chosen, skeleton)
    figure = Figure(figsize=(11, 1.75), layout="constrained")
    ax = figure.subplots()
    for slot, moment in enumerate(chosen):
        shift = np.array([2.1 * reach * slot, 0.0]) - middle[slot]
        for index, person in enumerate(people):
            if not present[moment, person]:
                continue
            pose, good = seen[moment, person] + shift, sane[moment, person]
            bones = drawn_bones(points[present[:, person], person], skeleton)
            drawable = good[bones].all(axis=1)
            colour = SERIES[(0, 2, 3)[index % 3]]
            ax.add_collection(
                LineCollection(list(pose[bones[drawable]]), colors=colour, linewidths=1.7, capstyle="round")
            )
            head = [joint for joint, name in enumerate(skeleton.joints) if name in ("head", "nose") and good[joint]]
            ax.plot(pose[head, 0], pose[head, 1], "o", color=colour, markersize=4.5, markeredgewidth=0)
            if where is not None and where[moment, person].any():
                wrong = where[moment, person]
                at = np.where(good[:, None], pose, pose[good].mean(axis=0) if good.any() else shift)[wrong]
                at = np.clip(
                    at,
                    [2.1 * reach * slot - 1.15 * reach, -1.15 * reach],
                    [2.1 * reach * slot + 1.15 * reach, 1.15 * reach],
                )
                ax.plot(at[:, 0], at[:, 1], "o", color=FAULT, markersize=7, markerfacecolor="none", markeredgewidth=1.6)
        ax.annotate(str(moment), (2.1 * reach * slot, -1.25 * reach), ha="center", va="top", fontsize=7.5, color=MUTED)
    ax.set_xlim(-1.2 * reach, 2.1 * reach * (moments - 1) + 1.2 * reach)
    ax.set_ylim(-1.6 * reach, 1.2 * reach)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return figure


def _moments(present: Bools, where: Bools | None, moments: int) -> NDArray[np.int64]:
    """Frames to draw: spread over those that show somebody, or, if something is pointed at, around it."""
    seen = np.flatnonzero(present.any(axis=1))
    if not len(seen):
        seen = np.arange(len(present))
    if where is not None and where.any():
        wrong = np.flatnonzero(where.any(axis=(1, 2)))
        first = int(wrong[len(wrong) // 2] if len(wrong) > moments else wrong[0])
        near = seen[np.argsort(np.abs(seen - first), kind="stable")[: max(moments - 2, 1)]]
        return np.unique(np.concatenate([near, seen[:1], seen[-1:]]))
    return np.unique(seen[np.linspace(0, len(seen) - 1, moments).round().astype(int)])


def _frame(
    seen: NDArray[np.float64], present: Bools, sane: Bools, chosen: NDArray[np.int64], skeleton: Skeleton
) -> tuple[NDArray[np.float64], float]:
    """The middle of each pose [n, 2], and how far the drawing of one reaches; single far points do not count."""
    middle, reach = np.zeros((len(chosen), 2)), []
    for slot, moment in enumerate(chosen):
        points = seen[moment][present[moment][:, None] & sane[moment]]
        if len(points):
            low, high = np.percentile(points, [5, 95], axis=0)
            middle[slot] = (low + high) / 2
            reach.append(0.62 * float((high - low).max()))
    return middle, max(float(np.percentile(reach, 75)) if reach else 1.0, 1e-6)


def _spread(ax: Axes, summary: Summary, names: Sequence[str], label: str, reference: Summary | None) -> None:
    columns = [summary.measured[name] for name in names]
    low, middle, high = (np.array([np.percentile(column, q) for column in columns]) for q in (5, 50, 95))
    rows = np.arange(len(names))[::-1]
    ax.hlines(rows, low, high, color=SERIES[0], alpha=0.45, lw=3)
    ax.plot(middle, rows, "o", color=SERIES[0], markersize=4.5, label="these recordings")
    if reference is not None and set(names) <= set(reference.measured):
        before = [float(np.median(reference.measured[name])) for name in names]
        ax.plot(before, rows, "|", color=FAULT, markersize=10, markeredgewidth=1.8, label="reference")
        ax.legend(frameon=False, loc="lower right")
    ax.set_yticks(rows, [name.partition("/")[2].replace("-", " to ") for name in names], fontsize=7.5)
    ax.set_xlabel(label)
    ax.set_xlim(left=0)
    ax.grid(axis="x", color=LINE)
    ax.tick_params(axis="y", length=0)
