from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from glt.analysis import figures
from glt.data.layouts import KINECT20
from glt.motion.disentangle import disentangle, entangle, face_forward


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def clip() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    frames = (rng.normal(0, 0.5, (1, 2, 20, 3)) + np.cumsum(rng.normal(0, 0.03, (30, 2, 20, 3)), 0)).astype(np.float32)
    present = np.ones((30, 2), bool)
    present[:4, 1] = False
    return frames * present[:, :, None, None], present


@pytest.mark.parametrize("turned", [False, True])
def test_an_unchanged_copy_is_drawn_as_the_recording(turned: bool) -> None:
    frames, present = clip()
    seen = face_forward(frames, present, KINECT20) if turned else frames
    tokens = disentangle(seen, present, KINECT20.centre)
    figure = figures.decomposition(frames, present, tokens, entangle(tokens, present, KINECT20.centre), KINECT20)
    recorded, path, _, augmented = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "recorded",
        "global translation",
        "local motion",
        "augmented",
    ]
    assert all(ax.get_aspect() == 1 for ax in figure.axes)
    lines = [
        np.stack([s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()])
        for ax in (recorded, augmented)
    ]
    assert len(lines[0]) == 2 * figures.MOMENTS * len(KINECT20.bones)
    assert lines[1][: 5 * 19] == pytest.approx(lines[0][: 5 * 19], abs=1e-5)
    assert lines[1].shape == lines[0].shape
    walked = path.lines[0].get_xydata()
    assert walked[-1] - walked[0] == pytest.approx(lines[0][4 * 19 + 1, 1] - lines[0][1, 1], abs=1e-5)


def test_a_person_who_never_comes_is_not_drawn() -> None:
    frames, present = clip()
    present[:, 1] = False
    frames[:, 1] = 0
    tokens = disentangle(frames, present, KINECT20.centre)
    figure = figures.decomposition(frames, present, tokens, entangle(tokens, present, KINECT20.centre), KINECT20)
    assert [len(ax.collections) for ax in figure.axes] == [figures.MOMENTS, 0, figures.MOMENTS, figures.MOMENTS]


def test_curves_dash_the_majority_share() -> None:
    history = [
        {
            "epoch": epoch,
            "pretrain/loss": 3.0,
            "pretrain/direction_top1/interval_10": 0.5,
            "pretrain/direction_top1/interval_1": 0.4,
            "pretrain/direction_majority/interval_1": 0.2,
            "pretrain/direction_majority/interval_10": 0.3,
        }
        for epoch in (1, 2)
    ]
    figure = figures.curves(history)
    drawn = [(line.get_linestyle(), line.get_ydata()[-1]) for line in figure.axes[1].lines]
    assert drawn == [("-", 0.4), ("--", 0.2), ("-", 0.5), ("--", 0.3)]
    assert texts(figure) == ["total", "1 frame", "10 frames"]


def test_one_epoch_shows_points() -> None:
    figure = figures.curves([{"epoch": 1, "pretrain/loss": 3.0}])
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_confusion_counts_and_shades_by_row() -> None:
    figure = figures.confusion(["a", "a", "a", "a", "b"], ["a", "a", "a", "b", "b"], ["a", "b", "never"])
    assert texts(figure) == ["3", "1", "1"]
    alpha = {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)): p.get_alpha() for p in figure.axes[0].patches}
    assert alpha[0, 0] / alpha[1, 1] == pytest.approx(0.75**0.5)
    assert alpha.keys() == {(0, 0), (1, 0), (1, 1)}


def test_a_class_that_no_training_clip_shows_has_a_row() -> None:
    (ax,) = figures.confusion(["a", "unseen", "b"], ["a", "b", "b"], ["b", "a"]).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a", "unseen"]
    assert sorted(text.get_position() for text in ax.texts) == [(0, 0), (0, 2), (1, 1)]


def test_many_classes_are_shaded_only() -> None:
    names = [f"class {n}" for n in range(figures.COUNTED + 1)]
    figure = figures.confusion(names, names, names)
    assert texts(figure) == []
    (picture,) = figure.axes[0].images
    np.testing.assert_allclose(np.ma.getdata(picture.get_array())[..., 3], np.eye(len(names)))
    ET.fromstring(figures.svg(figure, "many", "many classes"))


def test_paired_shows_both_counts() -> None:
    figure = figures.paired(21, 18, "champion v3")
    assert [bar.get_width() for bar in figure.axes[0].patches] == [21, 18]
    assert texts(figure) == ["21", "18"]


def test_svg_is_whole_named_and_takes_the_pages_colours() -> None:
    before = dict(matplotlib.rcParams)
    names = ["<a> & $x", "$"]
    text = figures.svg(figures.confusion(names, names, names), "one", 'says "<b>"')
    root = ET.fromstring(text)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'says "<b>"'
    assert "<a> & $x" in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(name.startswith("one-") for name in ids)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:href="|url\()#([^")]+)', text):
        assert reference in ids
    assert "var(--ink)" in text
    assert figures.INK not in text
    assert text == figures.svg(figures.confusion(names, names, names), "one", 'says "<b>"')
    assert dict(matplotlib.rcParams) == before


@pytest.mark.fault(
    "class names in a script that no installed font has", "no warnings; the browser draws them in its fonts"
)
def test_names_in_any_script_are_text_for_the_browser() -> None:
    names = ["걷기", "走る", "\U0001f3c3", "\u1234"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = figures.svg(figures.confusion(names, names, names), "one", "a confusion matrix")
    assert set(names) <= {element.text for element in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")}


def test_a_figure_is_also_a_picture_for_the_tracker() -> None:
    stream = io.BytesIO()
    figures.paired(0, 0, "untrained encoder").savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")


def test_the_largest_data_set_stays_light() -> None:
    rng = np.random.default_rng(0)
    names = [f"action {n}" for n in range(120)]
    labels, predicted = rng.choice(names, (2, 20_000))
    assert len(figures.svg(figures.confusion(labels, predicted, names), "all", "120 classes")) < 1_000_000
