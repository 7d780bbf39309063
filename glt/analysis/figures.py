"""Figures of a run: motion taken apart, learning curves, confusion, the paired comparison.

All are drawn on matplotlib's `Figure` (no global state), dark on white, fonts for print. `svg` turns one into inline
SVG whose colours are the page's own (CSS variables), so that it follows a light or dark page.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from glt.data.layouts import Skeleton
from glt.motion.disentangle import entangle

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Arguments = ParamSpec("Arguments")

INK, MUTED, LINE = "#1f2a33", "#5c6873", "#d3dae0"
SERIES = ("#2f6db4", "#c2571a", "#3a8558", "#8a5aa8")  # persons, intervals; told apart by colour-blind readers too
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line"} | {c: f"series-{n}" for n, c in enumerate(SERIES, 1)}
# Fonts with Hangul, kana and Chinese characters, which matplotlib's own font lacks; those that are installed are used.
_CJK = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans KR",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Unifont",
    "Arial Unicode MS",
)
_INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
_STYLE: Any = {
    "font.family": ["sans-serif", *(name for name in _CJK if name in _INSTALLED)],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # class names may hold a $
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "glt",
}
COUNTED = 20  # up to this many classes a confusion matrix shows counts
MOMENTS = 5  # of a clip that are drawn over each other


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """A drawing function whose figures have the project's fonts and colours."""

    @functools.wraps(draw)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


def svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as inline SVG.

    Args:
        figure: one of this module's.
        name: makes the ids inside unique on a page.
        alternative: what the figure says, for those who do not see it.
    """
    stream = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Text is kept as text: the browser draws it in its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(stream, format="svg", dpi=200, transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    width, height = (round(float(side) * 96) for side in figure.get_size_inches())
    label = alternative.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
    head += f'aria-label="{label}" width="{width}" height="{height}" viewBox="0 0 {width * 0.75:g} {height * 0.75:g}">'
    return head + text[text.index(">") + 1 :]


@styled
def decomposition(
    frames: Floats, present: Bools, tokens: Floats, augmented: Floats, skeleton: Skeleton, title: str = ""
) -> Figure:
    """A clip as recorded, its global translation, its local motion, and augmented; side by side, at one scale.

    Args:
        frames: positions [T, P, K, 3] as recorded, metres.
        present: [T, P].
        tokens: [T, P, K, 3] of the same clip, from `glt.motion.disentangle.disentangle`, turned or not.
        augmented: positions [T', P, K, 3] of an augmented copy, each person from its own origin (`entangle`).
        skeleton: the layout.
        title: above all.

    Each person has a colour; earlier moments are fainter. Paths and augmented persons begin where the recorded ones
    do; local motions stand beside each other.
    """
    persons, centre = frames.shape[1], skeleton.centre
    unturned = entangle(tokens, present, centre)
    recorded, from_origin = view(frames, present, skeleton), view(unturned, present, skeleton)
    starts = frames[np.argmax(present, axis=0), np.arange(persons), centre] @ recorded.T  # P, 2
    local = np.insert(tokens[:, :, 1:], centre, 0, axis=2)
    visible = (augmented != 0).any(axis=(2, 3))  # T', P
    offset = np.arange(persons)[:, None] * np.array([1.0, 0.0])  # P, 2: one metre to the right per person
    panels: dict[str, list[NDArray[np.float64]]] = {
        "recorded": [frames[present[:, p], p] @ recorded.T for p in range(persons)],
        "global translation": [tokens[present[:, p], p, :1] @ from_origin.T + starts[p] for p in range(persons)],
        "local motion": [local[present[:, p], p] @ from_origin.T + offset[p] for p in range(persons)],
        "augmented": [augmented[visible[:, p], p] @ from_origin.T + starts[p] for p in range(persons)],
    }
    spans = [_span(people) for people in panels.values()]
    spans[1] = spans[0]  # the path where it was walked
    widths = [max(high[0] - low[0], 0.8) for low, high in spans]
    height = max(high[1] - low[1] for low, high in spans)
    tall = float(np.clip(10.4 * height / sum(widths), 2.0, 3.8))
    figure = Figure(figsize=(11, tall + 0.55), layout="constrained")
    if title:
        figure.suptitle(title, x=0.005, ha="left", fontsize=10, color=MUTED)
    axes = figure.subplots(1, 4, width_ratios=widths)
    for ax, (name, people), (low, high), width in zip(axes, panels.items(), spans, widths, strict=True):
        for person, points in enumerate(people):
            colour = SERIES[person % len(SERIES)]
            if name == "global translation":
                _draw_path(ax, points[:, 0], colour)
            else:
                _draw_person(ax, points, skeleton, colour)
        middle = (low + high) / 2
        ax.set_xlim(middle[0] - width / 2, middle[0] + width / 2)
        ax.set_ylim(low[1] - 0.12, low[1] + height)
        ax.set_aspect("equal")
        ax.set_title(name)
        ax.set_axis_off()
    left, bottom = axes[0].get_xlim()[0], axes[0].get_ylim()[0]
    axes[0].plot([left, left + 0.5], [bottom, bottom], color=MUTED, lw=2, solid_capstyle="butt", clip_on=False)
    axes[0].annotate("0.5 m", (left + 0.55, bottom), va="center", color=MUTED, fontsize=8)
    return figure


@styled
def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Pretraining by epoch: losses, and direction accuracy per interval with the commonest class's share dashed.

    Args:
        history: a row of metrics an epoch, as ``history.json`` of an encoder.
    """
    epochs = np.array([row["epoch"] for row in history])
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends: dict[Axes, list[tuple[float, str, str]]] = {left: [], right: []}
    for name, colour in zip(("loss", "loss_direction", "loss_magnitude"), (INK, *SERIES), strict=False):
        values = _column(history, f"pretrain/{name}")
        if np.isfinite(values).any():
            _line(left, epochs, values, colour)
            ends[left].append((values[-1], name.removeprefix("loss_").replace("loss", "total"), colour))
    prefix = "pretrain/direction_top1/interval_"
    intervals = sorted(int(key.removeprefix(prefix)) for key in history[-1] if key.startswith(prefix))
    for index, interval in enumerate(intervals):
        colour = SERIES[index % len(SERIES)]
        values = _column(history, f"{prefix}{interval}")
        _line(right, epochs, values, colour)
        baseline = _column(history, f"pretrain/direction_majority/interval_{interval}")
        _line(right, epochs, baseline, colour, dashed=True)
        frames = "1 frame" if interval == 1 else f"{interval} frames"
        ends[right].append((values[-1], frames, colour))
    left.set_title("Loss")
    right.set_title("Direction accuracy (dashed: always the commonest class)")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    right.set_ylim(0, None)
    for ax in (left, right):
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        _label_ends(ax, float(epochs[-1]), ends[ax])
    return figure


@styled
def confusion(labels: Iterable[str], predicted: Iterable[str], classes: Sequence[str]) -> Figure:
    """Row-normalised confusion matrix: true classes down, answers across; counts in the cells up to 20 classes.

    Labels that are none of the classes, as no training clip has them, come last.
    """
    labels = list(labels)
    classes = [*classes, *sorted(set(labels) - set(classes))]
    index = {name: position for position, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, ([index[x] for x in labels], [index[x] for x in predicted]), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    small = len(classes) <= COUNTED
    cell = 0.46 if small else max(0.09, 9.2 / len(classes))
    side = max(cell * len(classes), 2.4)
    figure = Figure(figsize=(side + 1.9, side + 1.7), layout="constrained")
    ax = figure.subplots()
    shade = shares**0.5  # the root: rare mistakes stay visible
    if small:
        for row, column in np.argwhere(counts):
            colour, alpha = SERIES[0 if row == column else 1], 0.6 * float(shade[row, column])  # a count stays legible
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0))
            ax.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8.5)
    else:  # one picture: thousands of cells as shapes would make the page heavy
        colours = np.where(np.eye(len(classes), dtype=bool)[..., None], to_rgb(SERIES[0]), to_rgb(SERIES[1]))
        ax.imshow(np.dstack([colours, shade]), interpolation="nearest")
    names = [name if len(name) <= 26 else f"{name[:25]}…" for name in classes]
    size = 8.5 if small else max(3.5, min(8.5, cell * 62))
    ax.set_xticks(range(len(classes)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    ax.set_yticks(range(len(classes)), names, fontsize=size)
    ax.set_xlim(-0.5, len(classes) - 0.5)
    ax.set_ylim(len(classes) - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.tick_params(length=0)
    ax.set_xlabel("answer")
    ax.set_ylabel("true class")
    if small:
        for edge in np.arange(len(classes) + 1) - 0.5:
            ax.axhline(edge, color=LINE, lw=0.5)
            ax.axvline(edge, color=LINE, lw=0.5)
    ax.spines[:].set_visible(False)
    return figure


@styled
def paired(only_candidate: int, only_reference: int, reference: str, candidate: str = "new model") -> Figure:
    """The clips on which two models differ: right by the candidate only, and by the reference only."""
    figure = Figure(figsize=(6.2, 1.15), layout="constrained")
    ax = figure.subplots()
    counts = (only_candidate, only_reference)
    ax.barh([1, 0], counts, height=0.62, color=(SERIES[0], SERIES[1]))
    for row, count in zip((1, 0), counts, strict=True):
        ax.annotate(str(count), (count, row), (5, 0), textcoords="offset points", va="center", fontweight="bold")
    ax.set_yticks([1, 0], [f"right: {candidate} only", f"right: {reference} only"])
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.set_xlim(0, 1.12 * max(*counts, 1))
    ax.xaxis.set_visible(False)
    ax.spines[["bottom", "left"]].set_visible(False)
    ax.axvline(0, color=MUTED, lw=1)
    return figure


@styled
def recalls(classes: Sequence[str], one: Sequence[float], two: Sequence[float], names: Sequence[str]) -> Figure:
    """Recall of each class by two models: a dot each on a line, the classes downwards in the order given."""
    figure = Figure(figsize=(8.6, 1.0 + 0.24 * len(classes)), layout="constrained")
    ax = figure.subplots()
    rows = np.arange(len(classes))[::-1]
    ax.hlines(rows, one, two, color=MUTED, lw=1.2)
    for values, colour, name in zip((one, two), SERIES, names, strict=False):
        ax.scatter(values, rows, s=26, color=colour, label=name, zorder=3)
    ax.set_yticks(rows, classes)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.7, len(classes) - 0.3)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def view(frames: Floats, present: Bools, skeleton: Skeleton) -> NDArray[np.float64]:
    """Rows right and up of an orthographic camera [2, 3] that sees the first person three-quarters from the front."""
    a, b = (skeleton.up + 1) % 3, (skeleton.up + 2) % 3
    first = int(np.argmax(present[:, 0]))
    line = frames[first, 0, skeleton.shoulders[0]] - frames[first, 0, skeleton.shoulders[1]]
    angle = float(np.arctan2(line[a], line[b])) + np.radians(35)
    right, away, up = np.zeros(3), np.zeros(3), np.zeros(3)
    right[b], right[a] = np.cos(angle), np.sin(angle)
    up[skeleton.up] = 1
    away = np.cross(up, right)
    tilt = np.radians(12)
    return np.stack([right, np.cos(tilt) * up + np.sin(tilt) * away])


def _span(people: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest coordinates [2] of all points, with a margin."""
    points = np.concatenate([person.reshape(-1, 2) for person in people])
    return points.min(0) - 0.08, points.max(0) + 0.08


def _moments(length: int) -> NDArray[np.int64]:
    """Frames to draw, the last one among them."""
    return np.unique(np.linspace(0, length - 1, MOMENTS).round().astype(np.int64))


_SAME_PLACE = 1e-5  # metres


def _draw_person(ax: Axes, points: NDArray[np.float64], skeleton: Skeleton, colour: str) -> None:
    """A skeleton [t, K, 2] at several moments over each other."""
    if not len(points):
        return
    moments = _moments(len(points))
    bones = drawn_bones(points, skeleton)
    heads = [joint for joint, name in enumerate(skeleton.joints) if name == "head"]
    for moment, alpha in zip(moments, np.geomspace(0.13, 1, len(moments)), strict=True):
        pose = points[moment]
        lines = LineCollection(
            list(pose[bones]),
            colors=colour,
            alpha=alpha,
            linewidths=2.2 if moment == moments[-1] else 1.3,
            capstyle="round",
        )
        ax.add_collection(lines)
        ax.plot(pose[heads, 0], pose[heads, 1], "o", color=colour, alpha=alpha, markersize=5.5, markeredgewidth=0)


def drawn_bones(points: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.int64]:
    """Ends [B, 2] of the bones to draw for points [..., K, n], without those of absent joints.

    The checks place an absent joint at the centre joint, in all frames.
    """
    bones = np.array(skeleton.bones).reshape(-1, 2)
    flat = points.reshape(-1, *points.shape[-2:])
    if not len(flat):
        return bones
    absent = np.abs(flat - flat[:, [skeleton.centre]]).max(axis=(0, 2)) < _SAME_PLACE
    absent[skeleton.centre] = False
    return np.asarray(bones[~absent[bones].any(axis=1)])


def _draw_path(ax: Axes, path: NDArray[np.float64], colour: str) -> None:
    """The way of the centre joint [t, 2]: a ring at its start, a dot at its end, and how far it came."""
    if not len(path):
        return
    ax.plot(path[:, 0], path[:, 1], color=colour, lw=1.8, solid_capstyle="round", solid_joinstyle="round")
    for moment, alpha in zip(_moments(len(path)), np.geomspace(0.13, 1, len(_moments(len(path)))), strict=True):
        ax.plot(*path[moment], "o", color=colour, alpha=alpha, markersize=5.5, markeredgewidth=0)
    ax.plot(*path[0], "o", color=colour, markersize=7, markerfacecolor="none", markeredgewidth=1.2)


def _column(history: Sequence[Mapping[str, float]], key: str) -> NDArray[np.float64]:
    return np.array([row.get(key, np.nan) for row in history], float)


def _line(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], colour: str, dashed: bool = False) -> None:
    marker = "o" if len(x) == 1 else ""
    ax.plot(x, y, color=colour, lw=1.2 if dashed else 1.8, ls=(0, (4, 3)) if dashed else "-", marker=marker)


def _label_ends(ax: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right end of lines (y, name, colour), moved apart where they would overlap."""
    low, high = ax.get_ylim()
    gap, last = (high - low) * 0.075, -np.inf
    for y, name, colour in sorted(ends):
        last = max(y, last + gap)
        ax.annotate(
            name, (x, last), (6, 0), textcoords="offset points", va="center", color=colour, annotation_clip=False
        )
