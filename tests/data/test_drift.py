from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from glt.data.drift import Summary, drift, summarise
from glt.data.layouts import NTU25
from glt.data.recording import Recording
from glt.errors import GltError
from glt.reporter import Silent
from tests.data import stores


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return summarise(stores.store(tmp_path_factory.mktemp("drift") / "clips", stores.recordings(300)), Silent())


def summary_of(tmp_path: Path, change: Callable[[Recording], Recording] = lambda r: r, count: int = 300) -> Summary:
    return summarise(stores.store(tmp_path / "new", stores.recordings(count, change, first=1000)), Silent())


def permute(recording: Recording) -> Recording:
    order = np.arange(25)
    order[[5, 6, 7]] = [7, 5, 6]
    return replace(recording, frames=recording.frames[:, :, order])


def freeze(recording: Recording) -> Recording:
    frames = recording.frames.copy()
    frames[:, :, 7] = frames[:1, :, 7]
    return replace(recording, frames=frames)


def relabel(recording: Recording) -> Recording:
    return replace(recording, label="class 0" if recording.label in ("class 1", "class 2") else recording.label)


PLANTED: dict[str, tuple[Callable[[Recording], Recording], str, str]] = {
    "millimetres": (lambda r: replace(r, frames=r.frames * np.float32(1000)), "bone", "alarm"),
    "a tenth larger": (lambda r: replace(r, frames=r.frames * np.float32(1.1)), "bone", "alarm"),
    "swapped axes": (lambda r: replace(r, frames=r.frames[..., [0, 2, 1]]), "height", "alarm"),
    "another joint order": (permute, "bone", "alarm"),
    "half the frames": (lambda r: replace(r, frames=r.frames[::2], present=r.present[::2]), "speed", "alarm"),
    "a frozen hand": (freeze, "speed", "alarm"),
    "another camera height": (lambda r: replace(r, frames=r.frames + np.float32([0, 0.5, 0])), "height", "alarm"),
    "a new class": (lambda r: replace(r, label="class 9" if r.label == "class 4" else r.label), "classes", "warning"),
    "another mix": (relabel, "labels", "warning"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_has_changed_is_found_and_named(tmp_path: Path, reference: Summary, planted: str) -> None:
    change, check, severity = PLANTED[planted]
    found = [finding for finding in drift(summary_of(tmp_path, change), reference) if finding.check == check]
    assert found
    assert found[0].severity == severity
    names = {name for finding in found for name in finding.names}
    if planted == "a frozen hand":
        assert "left hand" in names
    if planted == "another joint order":
        assert any("left" in name for name in names)
    if planted == "a new class":
        assert names == {"class 9", "class 4"}


def test_more_of_the_same_raises_nothing(tmp_path: Path, reference: Summary) -> None:
    assert drift(summary_of(tmp_path), reference) == []


def halves(whole: Summary, random: np.random.Generator) -> tuple[Summary, Summary]:
    """Two random halves of what a summary was measured on."""
    count = len(next(iter(whole.measured.values())))
    order = random.permutation(count)
    labels = np.repeat(list(whole.labels), list(whole.labels.values()))[:count]
    parts = []
    for rows in (order[: count // 2], order[count // 2 :]):
        names, counts = np.unique(labels[rows], return_counts=True)
        measured = {name: column[rows] for name, column in whole.measured.items()}
        parts.append(
            Summary(whole.layout, whole.joints, measured, dict(zip(names.tolist(), counts.tolist(), strict=True)))
        )
    return parts[0], parts[1]


def quiet(whole: Summary, draws: int) -> int:
    """Draws of random halves that raise nothing."""
    random = np.random.default_rng(0)
    return sum(not drift(*halves(whole, random)) for _ in range(draws))


def test_random_halves_of_a_set_raise_nothing_in_95_percent_of_draws(reference: Summary) -> None:
    draws = 60
    assert quiet(reference, draws) >= stats.binom.ppf(0.001, draws, 0.95)


def test_a_joint_that_is_no_joint_of_the_reference_ends_the_comparison(reference: Summary) -> None:
    other = replace(reference, joints=reference.joints[1:])
    (finding,) = drift(other, reference)
    assert (finding.check, finding.severity) == ("layout", "alarm")


def test_a_summary_survives_its_file(tmp_path: Path, reference: Summary) -> None:
    reference.write(tmp_path / "summary.json")
    again = Summary.read(tmp_path / "summary.json")
    assert (again.layout, again.joints, again.labels) == (reference.layout, NTU25.joints, reference.labels)
    for name, column in reference.measured.items():
        np.testing.assert_allclose(again.measured[name], column, rtol=1e-3)
    assert (tmp_path / "summary.json").stat().st_size < 200_000
    assert drift(again, reference) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"layout": 1}', '{"measured": {"a": ["x"]}}'])
def test_a_file_that_is_no_summary_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(GltError, match=r"summary\.json: not a summary of recordings"):
        Summary.read(tmp_path / "summary.json")
