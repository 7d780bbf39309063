"""Recordings whose names the format does not know can be classified: prediction needs no subject and no label."""

from __future__ import annotations

from pathlib import Path

import pytest

from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.recipe import Recipe
from glt.reporter import Silent
from tests.data import recorded

NTU, UCLA, SBU = recorded.recipe(), recorded.recipe("nw-ucla", "cross-view"), recorded.recipe("sbu", "5-fold")
FILES: dict[str, tuple[Recipe, dict[str, bytes], set[str]]] = {
    "one file": (NTU, {"falls in the hall.skeleton": recorded.one_person(1)}, {"falls in the hall"}),
    "beside a known name and a file of another kind": (
        NTU,
        {
            **{"README.md": b"x", "a/Fall 1.SKELETON": recorded.one_person(1), "b/Fall 1.SKELETON": b"cut off"},
            "S001C001P001R001A001.skeleton": recorded.one_person(2),
        },
        {"a/Fall 1", "S001C001P001R001A001"},
    ),
    "NW-UCLA": (
        UCLA,
        {
            "x/fall.json": recorded.nw_ucla(recorded.walk(1, joints=20), label=99),
            "a01_s01_e00_v01.json": recorded.nw_ucla(recorded.walk(2, joints=20), label=99),
            "a01_s02_e00_v01.json": recorded.nw_ucla(recorded.walk(3, joints=20)),
        },
        {"x/fall", "a01_s01_e00_v01", "a01_s02_e00_v01"},
    ),
    "SBU": (
        SBU,
        {"skeleton_pos.txt": recorded.sbu(1), "hall/skeleton_pos.txt": recorded.sbu(2)},
        {"skeleton_pos", "hall/skeleton_pos"},
    ),
}


@pytest.mark.fault(
    "predict of a recording whose name the format does not know", "classified; the row has the file's own name"
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_names_that_the_format_does_not_know(
    tmp_path: Path, case: tuple[Recipe, dict[str, bytes], set[str]], packed: bool
) -> None:
    recipe, files, names = case
    write = recorded.write_zip if packed else recorded.write_folder
    given = write(tmp_path / ("given.zip" if packed else "given"), files)
    ingest(given, recipe, tmp_path / "clips", {}, Silent(), tmp_path / "segments", any_name=True)
    clips = ClipStore(tmp_path / "clips")
    assert set(clips.index["name"]) == names
    assert "name" not in set(clips.rejected["check"])
