"""Public sets with known oddities: ingest and the checks report these, and nothing else (GLT_REAL_DATA/extra)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from glt.analysis.data_report import ClipAnalysis, analyse_clips
from glt.data import clip_warnings
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.reporter import Silent
from tests.data.recorded import recipe
from tests.data.test_real_recordings import real

RECIPE = recipe("table", "column", column="subject", test_values=[2, 4, 6, 8, 10, 12, 14])


@dataclass(frozen=True)
class Known:
    """Findings of a set.

    Attributes:
        clips: number of clips.
        warned: clips with a warning, by check.
        pairs: duplicates.
        findings: (severity, check) of the findings across recordings, but for those on the size of classes.
    """

    clips: int
    warned: dict[str, int]
    pairs: frozenset[tuple[str, str]] = frozenset()
    findings: frozenset[tuple[str, str]] = frozenset()


KNOWN = {
    # Windows that do not overlap. Twelve pairs, of somebody who repeats a gesture, resemble each other to 1 cm: they
    # are no duplicates.
    "msrc12": Known(4114, {"bone-length": 97, "speed": 9}),
    # A bend holds three forward kicks bit for bit; one action is another less a frame; 15 recordings show nobody in 12
    # to 62 % of the frames between the first and the last person; 4 have empty ends.
    "msr-action3d": Known(
        566,
        {"gaps": 15, "ends": 4},
        frozenset(
            {
                ("msr_a05_s01_e01", "msr_a05_s01_e02"),
                ("msr_a13_s02_e02", "msr_a13_s02_e03"),
                *(("msr_a13_s09_e03", f"msr_a14_s09_e0{number}") for number in (1, 2, 3)),
            }
        ),
        frozenset({("note", "gaps"), ("warning", "duplicates")}),
    ),
    # Actions that follow each other share one to three frames: no duplicates.
    "utkinect": Known(200, {"bone-length": 8}),
    "kimore-sample": Known(10, {"bone-length": 2}),
}
_SIZES = {"classes", "balance"}
Found = tuple[Known, ClipStore, ClipAnalysis]


def archives(name: str) -> list[Path]:
    """The archives of a set."""
    if name == "msrc12":
        return [real(f"extra/msrc12-{half}.zip") for half in ("odd", "even")]
    return [real(f"extra/{name}.zip")]


@pytest.fixture(scope="module", params=list(KNOWN))
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "in").mkdir()
    for archive in archives(request.param):
        (folder / "in" / archive.name).symlink_to(archive)
    ingest(folder / "in", RECIPE, folder / "clips", {}, Silent(), folder / "segments")
    store = ClipStore(folder / "clips")
    return KNOWN[request.param], store, analyse_clips(store, RECIPE, Silent())


def test_every_recording_is_taken_and_warned_of_as_known(found: Found) -> None:
    known, store, _ = found
    assert (len(store.index), store.files_rejected) == (known.clips, 0)
    assert {one.check: one.count for one in clip_warnings.by_check(store.index)} == known.warned


def test_duplicates_and_findings_are_the_known_ones(found: Found) -> None:
    known, _, analysis = found
    assert set(zip(analysis.pairs["first"], analysis.pairs["second"], strict=True)) == known.pairs
    findings = {(one.severity, one.check) for one in analysis.findings if one.check not in _SIZES}
    assert findings == known.findings


def test_a_gap_is_counted_exactly(found: Found) -> None:
    known, store, _ = found
    row = {name: number for number, name in enumerate(store.index["name"])}.get("msr_a20_s02_e03")
    if row is None:
        assert "gaps" not in known.warned
        return
    assert "gaps: nobody in 33 of 53 frames" in store.index["warnings"][row]
    assert np.count_nonzero(~store.present(row).any(axis=1)) == 33
