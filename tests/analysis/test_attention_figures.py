from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from glt.analysis import attention_figures as figures

RANDOM = np.random.default_rng(0)


def draw(figure: Figure) -> Figure:
    """Drawn without a complaint: an overfull layout warns."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


@pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("blocks", "heads"), [(1, 1), (2, 4)])
def test_a_map_a_block_and_head(blocks: int, heads: int) -> None:
    maps = RANDOM.random((blocks, heads, 6, 6))
    for figure in (draw(figures.temporal_maps(maps)), draw(figures.spatial_maps(maps, persons=2))):
        assert len(figure.axes) == blocks * heads
        for (block, head), ax in zip(np.ndindex(blocks, heads), figure.axes, strict=True):
            (image,) = ax.images
            assert image.get_cmap().name == "viridis"
            assert (image.get_array() == maps[block, head]).all()
            assert ax.get_title(loc="left") == f"block {block + 1}, head {head + 1}"
            assert ax.texts[0].get_text() == f"{maps[block, head].min():.3f} – {maps[block, head].max():.3f}"


@pytest.mark.parametrize(("persons", "edges", "names"), [(1, [], ["g"]), (3, [1.5, 3.5], ["g1", "g2", "g3"])])
def test_persons_are_parted_and_global_translations_marked(persons: int, edges: list[float], names: list[str]) -> None:
    figure = figures.spatial_maps(RANDOM.random((1, 2, 6, 6)), persons)
    for ax in figure.axes:
        upright = [float(line.get_xdata()[0]) for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1]]
        level = [float(line.get_ydata()[0]) for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1]]
        assert upright == level == edges
        for axis in (ax.xaxis, ax.yaxis):
            assert axis.get_ticklocs().tolist() == [6 // persons * person for person in range(persons)]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names


def test_heads_are_dots_and_lines_their_means() -> None:
    one, other = np.array([[1.0, 3.0], [4.0, 8.0]]), np.array([[2.0], [5.0], [9.0]])
    (ax,) = draw(figures.attended_distance({"all intervals": one, "interval 1": other})).axes
    dots, means = ax.lines[0::3], ax.lines[1::3]
    assert [line.get_ydata().tolist() for line in dots] == [[1, 3, 4, 8], [2, 5, 9]]
    assert [line.get_ydata().tolist() for line in means] == [[2, 6], [2, 5, 9]]
    assert [np.round(line.get_xdata()).tolist() for line in dots] == [[1, 1, 2, 2], [1, 2, 3]]
    assert len({line.get_marker() for line in dots}) == len({line.get_color() for line in dots}) == 2
    (legend,) = ax.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["all intervals", "interval 1"]
    assert ax.get_xticks().tolist() == [1, 2, 3]


def test_one_model_needs_no_legend() -> None:
    assert not figures.attended_distance({"it": np.ones((2, 3))}).legends


def test_the_indicated_position_is_circled() -> None:
    places = [(frame, token) for token in (0, 3) for frame in (1, 5, 8)]
    tiles = [RANDOM.uniform(-1, 1, (10, 6)) for _ in places]
    *axes, bar = draw(figures.positional_similarity(tiles, places, persons=2)).axes
    assert bar.get_ylabel() == "cosine similarity"
    for ax, tile, place in zip(axes, tiles, places, strict=True):
        assert (ax.images[0].get_array() == tile.T).all()
        assert ax.images[0].get_clim() == (-1, 1)
        assert ax.lines[0].get_xydata().tolist() == [list(place)]
    assert [ax.get_title(loc="left") for ax in axes[:3]] == ["frame 1", "frame 5", "frame 8"]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == [
        "global translation\nof person 1",
        "global translation\nof person 2",
    ]
