from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glt.analysis import data_figures
from glt.analysis.data_report import analyse_clips, write_data_report
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.layouts import COCO17, NTU25
from glt.data.recording import Recording, Rejection
from glt.data.rejects import read_examples, write_example
from glt.recipe import Recipe
from glt.reporter import Silent
from tests.data import recorded, stores


class Text(HTMLParser):
    """What a reader of the page sees, and which tags it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))


def page(folder: Path, store: ClipStore, recipe: Recipe | None = None, reference: ClipStore | None = None) -> Text:
    recipe = recipe or recorded.recipe(protocol="column", column="subject", test_values=[0, 1, 2])
    from glt.data.drift import summarise

    other = summarise(reference, Silent()) if reference else None
    write_data_report(folder / "page.html", store, recipe, analyse_clips(store, recipe, Silent(), other))
    return Text((folder / "page.html").read_text())


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """Sixty takes; one comes again in the other split by subject, one nearly."""
    takes = stores.recordings(60)
    again = replace(takes[0], name="again", subject=7)
    nearly = replace(takes[11], name="nearly", frames=takes[11].frames + np.float32(0.5), label="class 0")
    odd = replace(takes[5], name="odd", warnings=("speed: left hand jumps", "ends: 3 frames cut off"))
    return stores.store(tmp_path_factory.mktemp("report") / "clips", [*takes[:5], *takes[6:], odd, again, nearly])


def test_the_page_says_what_was_found(tmp_path: Path, clips: ClipStore) -> None:
    shown = page(tmp_path, clips)
    assert "1 alarm," in shown.text
    assert "1 of 19 test recordings have a duplicate in the training split" in shown.text
    assert "2 pairs; the same bit for bit, or the same motion moved" in shown.text
    assert "1 of them have one clip in training and one in test" in shown.text
    assert "62 clips" in shown.text
    assert "5 classes, 0 clips unlabelled" in shown.text
    assert "speed 1 odd left hand jumps" in shown.text
    assert shown.text.count("1 clip with a warning: 1 ends, 1 speed") == 1
    assert "None: every file became a clip" in shown.text
    assert sum(tag == "svg" for tag, _ in shown.tags) >= 5 + 4


def test_it_stands_alone(tmp_path: Path, clips: ClipStore) -> None:
    shown = page(tmp_path, clips)
    for tag, attributes in shown.tags:
        assert tag not in {"script", "link", "iframe", "img"}
        assert not (attributes.get("href") or "").startswith(("http", "//"))
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


def test_markup_in_names_and_labels_is_only_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    takes = [replace(take, label=evil, name=f"{take.name}{evil}") for take in stores.recordings(12)]
    shown = page(tmp_path, stores.store(tmp_path / "clips", takes))
    assert all(tag != "script" for tag, _ in shown.tags)
    assert evil in shown.text


def test_drift_from_a_reference_is_shown(tmp_path: Path) -> None:
    before = stores.store(tmp_path / "before", stores.recordings(120))
    larger = [replace(take, frames=take.frames * np.float32(1.2)) for take in stores.recordings(120, first=500)]
    shown = page(tmp_path, stores.store(tmp_path / "after", larger), reference=before)
    assert "Compared with a reference of 120 clips" in shown.text
    assert re.search(r"alarm bone bone .* median", shown.text)
    assert "reference" in shown.text


def test_a_protocol_that_cannot_split_them_is_reported(tmp_path: Path, clips: ClipStore) -> None:
    shown = page(tmp_path, clips, recorded.recipe(protocol="xset"))
    assert "They cannot be split by xset" in shown.text


def test_little_and_unlabelled_data_have_a_page(tmp_path: Path) -> None:
    one = [replace(stores.recordings(1)[0], label=None, subject=None)]
    shown = page(tmp_path, stores.store(tmp_path / "clips", one))
    assert "no recording is labelled" in shown.text


def test_a_plane_of_image_heights_has_a_page(tmp_path: Path) -> None:
    takes = []
    for number in range(6):
        frames = stores.take(number, layout=COCO17) * np.float32([1, 1, 0])
        takes.append(
            Recording(f"x{number}", frames, np.ones(frames.shape[:2], bool), COCO17, label="a", subject=number)
        )
    assert "bone length, image heights" in page(tmp_path, stores.store(tmp_path / "clips", takes)).text


def test_rejects_are_drawn_with_what_failed(tmp_path: Path) -> None:
    files = recorded.delivery(6)
    broken = recorded.walk(1, 12)
    broken[4, 7] = np.nan
    files["day/S001C001P009R001A001.skeleton"] = recorded.skeleton([{"1": frame} for frame in broken])
    files["day/S001C001P010R001A001.skeleton"] = b"1\n"
    files["notes.txt"] = b"x"
    recipe = recorded.recipe(max_rejects=0.5)
    place = recorded.write_folder(tmp_path / "in", files)
    ingest(place, recipe, tmp_path / "clips", {}, Silent(), tmp_path / "segments")
    shown = page(tmp_path, ClipStore(tmp_path / "clips"), recipe)
    assert "finite : NaN or infinite coordinates in 1 of 12 frames day/S001C001P009R001A001.skeleton" in shown.text
    assert "2 files rejected" in shown.text
    assert "seen 9: 6 taken, 2 rejected, 1 left out (1 of another kind)" in shown.text
    assert "notes.txt ending the format reads files that end with .skeleton" in shown.text
    assert any("what failed is ringed" in (a.get("aria-label") or "") for tag, a in shown.tags if tag == "svg")


def test_an_example_of_a_reject_is_read_as_it_was_written(tmp_path: Path) -> None:
    frames = stores.take(1, length=500)
    frames[400, 0, 3] = np.inf
    where = ~np.isfinite(frames).all(axis=3)
    recording = Recording("x", frames, np.ones((500, 1), bool), NTU25)
    write_example(
        tmp_path / "rejected", 7, Rejection("finite", "why", recording=recording, where=where), "a/x.skeleton"
    )
    (example,) = read_examples(tmp_path / "rejected")
    assert (example.source, example.check, example.reason, example.start) == ("a/x.skeleton", "finite", "why", 300)
    np.testing.assert_array_equal(example.frames, frames[300:])
    np.testing.assert_array_equal(example.where, where[300:])
    assert example.skeleton == NTU25
    assert read_examples(tmp_path / "nothing") == []


def rings(frames: np.ndarray, where: np.ndarray) -> int:
    figure = data_figures.strip(frames, np.ones(frames.shape[:2], bool), NTU25, where)
    lines = [line for line in figure.axes[0].lines if line.get_color() == data_figures.FAULT]
    return sum(len(line.get_xdata()) for line in lines)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6, 0.0])
def test_a_strip_rings_the_points_that_failed(value: float) -> None:
    frames = stores.take(1)
    where = np.zeros((60, 1, 25), bool)
    where[40:42, 0, [3, 7]] = True
    frames[where] = value
    assert rings(frames, where) == 4
    assert rings(frames, where & False) == 0


def test_the_heat_map_holds_every_class_and_subject() -> None:
    random = np.random.default_rng(0)
    index = pd.DataFrame(
        {"label": [f"A{n:03}" for n in random.integers(1, 121, 5000)], "subject": random.integers(1, 107, 5000)}
    )
    index.loc[0, ["label", "subject"]] = None
    image = data_figures.counts(index, "subject").axes[0].images[0]
    assert image.get_array().shape == (120, 106)
    assert image.get_array().sum() == 4999
