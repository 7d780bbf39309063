"""Figures of what an encoder attends to (paper, Fig. 4, 5, A, B, C), in the style of `glt.analysis.figures`.

Yellow is large. Each map has a range of colours of its own, written above it: heads differ by more than a common range
would show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from glt.analysis.figures import INK, MUTED, SERIES, styled

Numbers = NDArray[np.floating[Any]]
MARK = "#e5383b"  # stands out on every shade of viridis
MARKERS = "osD^"
COLOURS = "viridis"


@styled
def temporal_maps(maps: Numbers) -> Figure:
    """Fig. 4 (left) and B: temporal maps [blocks, heads, n, n]; one row per block, one column per head."""
    figure, axes = _grid(maps)
    for ax in axes.flat:
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.supxlabel("key frame", fontsize=9, color=MUTED)
    figure.supylabel("query frame", fontsize=9, color=MUTED)
    return figure


@styled
def spatial_maps(maps: Numbers, persons: int) -> Figure:
    """Fig. 5 and C: spatial maps [blocks, heads, J, J]; dotted between persons, the global translations marked."""
    figure, axes = _grid(maps)
    tokens = maps.shape[2]
    joints = tokens // persons
    for ax in axes.flat:
        for edge in range(joints, tokens, joints):
            ax.axvline(edge - 0.5, color="white", lw=1, ls=":")
            ax.axhline(edge - 0.5, color="white", lw=1, ls=":")
        marks = np.arange(0, tokens, joints)
        names = [f"g{person}" if persons > 1 else "g" for person in range(1, persons + 1)]
        ax.set_xticks(marks, names)
        ax.set_yticks(marks, names)
        ax.tick_params(color=MARK, labelcolor=MARK, width=1.5)
    figure.supxlabel("key token (g: global translation, then local joints)", fontsize=9, color=MUTED)
    figure.supylabel("query token", fontsize=9, color=MUTED)
    return figure


@styled
def attended_distance(models: Mapping[str, Numbers]) -> Figure:
    """Fig. 4 (right): average attended frame distance [blocks, heads] of each model by its name.

    One mark per head; a line joins the means over the heads of a block.
    """
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    ax = figure.subplots()
    for index, (name, distance) in enumerate(models.items()):
        blocks, heads = distance.shape
        x = np.arange(1, blocks + 1) + 0.12 * (index - (len(models) - 1) / 2)
        colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
        dots: Any = {"color": colour, "marker": marker, "markersize": 6, "markeredgewidth": 0}
        ax.plot(np.repeat(x, heads), distance.ravel(), ls="", alpha=0.65, **dots)
        ax.plot(x, distance.mean(1), color=colour, lw=1.8, marker="_", markersize=18, markeredgewidth=1.8)
        ax.plot([], [], lw=1.8, label=name, **dots)
    ax.set_title("Average attended frame distance")
    ax.set_xlabel("block (one mark per head, line: mean)")
    ax.set_ylabel("frames")
    ax.set_xticks(range(1, max(distance.shape[0] for distance in models.values()) + 1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.15)
    ax.set_ylim(0, None)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    if len(models) > 1:
        figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=INK)
    return figure


@styled
def positional_similarity(tiles: Sequence[Numbers], positions: Sequence[tuple[int, int]], persons: int) -> Figure:
    """Fig. A: cosine similarities [T, J] of the vector at each (frame, token) of `positions`, which is circled.

    One row per token, one column per frame; in a tile frames run right, tokens down, dotted between persons.
    """
    frames, tokens = (list(dict.fromkeys(position[axis] for position in positions)) for axis in (0, 1))
    width = tiles[0].shape[1]
    joints = width // persons
    figure = Figure(figsize=(3.1 * len(frames) + 1, 1.7 * len(tokens) + 0.5), layout="constrained")
    axes = figure.subplots(len(tokens), len(frames), squeeze=False, sharex=True, sharey=True)
    for tile, (frame, token) in zip(tiles, positions, strict=True):
        ax = axes[tokens.index(token), frames.index(frame)]
        image = ax.imshow(tile.T, cmap=COLOURS, aspect="auto", interpolation="nearest", vmin=-1, vmax=1)
        ring: Any = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6, "clip_on": False, "zorder": 5}
        ax.plot(frame, token, "o", color=MARK, **ring)
        for edge in range(joints, width, joints):
            ax.axhline(edge - 0.5, color="white", lw=1, ls=":")
        if token == tokens[0]:
            ax.set_title(f"frame {frame}")
        if frame == frames[0]:
            person, joint = divmod(token, joints)
            what = f"local joint {joint}" if joint else "global translation"
            ax.set_ylabel(what + (f"\nof person {person + 1}" if persons > 1 else ""))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        _bare(ax)
    figure.supxlabel("frame (right), token (down)", fontsize=9, color=MUTED)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, label="cosine similarity")
    bar.outline.set_visible(False)
    return figure


def _grid(maps: Numbers) -> tuple[Figure, NDArray[Any]]:
    """The maps [blocks, heads, n, n] and their axes; titles and ranges are written, ticks only at the outside."""
    blocks, heads = maps.shape[:2]
    figure = Figure(figsize=(1.55 * heads + 0.6, 1.85 * blocks + 0.5))
    figure.set_layout_engine("constrained", h_pad=0.08)
    axes: NDArray[Any] = figure.subplots(blocks, heads, squeeze=False, sharex=True, sharey=True)
    for (block, head), ax in np.ndenumerate(axes):
        shown = maps[block, head]
        ax.imshow(shown, cmap=COLOURS, interpolation="nearest")
        ax.set_title(f"block {block + 1}, head {head + 1}", pad=16)
        shades = f"{shown.min():.3f} – {shown.max():.3f}"
        ax.annotate(shades, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", color=MUTED)
        _bare(ax)
    return figure, axes


def _bare(ax: Axes) -> None:
    ax.spines[:].set_visible(False)
    ax.tick_params(labelsize=8)
