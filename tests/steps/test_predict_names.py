"""Recordings whose names the format does not know can be classified: prediction needs no subject and no label."""

from __future__ import annotations

from pathlib import Path

import pytest

from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.reporter import Silent
from glt.steps.predict import _NAMELESS, _named
from tests.data import recorded


@pytest.mark.fault("predict of a recording whose name the format does not know", "classified under its own name")
@pytest.mark.parametrize("single", [True, False])
def test_names_that_the_format_does_not_know(tmp_path: Path, single: bool) -> None:
    given = tmp_path / "given"
    given.mkdir()
    names = ["falls in the hall.skeleton"] if single else ["Fall 1.SKELETON", "S001C001P001R001A001.skeleton"]
    for number, name in enumerate(names):
        (given / name).write_bytes(recorded.one_person(number + 1))
    named = _named(given / names[0] if single else given, tmp_path / "named")
    ingest(named, recorded.recipe(), tmp_path / "clips", {}, Silent(), tmp_path / "segments")
    found = ClipStore(tmp_path / "clips").index["name"].str.removeprefix(_NAMELESS)
    assert set(found) == {name.rpartition(".")[0] for name in names}


def test_names_that_the_format_knows_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "S001C001P001R001A001.skeleton").write_bytes(recorded.one_person(1))
    assert _named(tmp_path, tmp_path / "named") == tmp_path
