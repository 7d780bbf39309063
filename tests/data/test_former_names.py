"""Files written before columns and checks got their present names are still read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from glt import artifact, recipe
from glt.data import duplicates, findings
from glt.data.findings import Finding
from glt.motion.disentangle import Motions
from glt.reporter import Silent
from tests.data import stores


def test_motions_with_the_column_side(motions: Motions, tmp_path: Path) -> None:
    info = artifact.open_artifact(motions.path, "motions")
    with artifact.create(tmp_path / "motions", "motions", info) as draft:
        shutil.copytree(motions.path, draft, dirs_exist_ok=True)
        pd.read_parquet(motions.path / "clips.parquet").rename(columns={"split": "side"}).to_parquet(
            draft / "clips.parquet", index=False
        )
    pd.testing.assert_frame_equal(Motions(tmp_path / "motions").index, motions.index)


def test_findings_of_checks_that_were_renamed(tmp_path: Path) -> None:
    rows = [{"check": check, "severity": "alarm", "text": "t", "names": ["a"]} for check in ("sides", "twins", "leak")]
    artifact.write_json(tmp_path / "findings.json", rows)
    assert findings.read(tmp_path / "findings.json") == [
        Finding(check, "alarm", "t", ("a",)) for check in ("overlap", "duplicates", "leak")
    ]


def test_a_recipe_that_tolerates_a_check_that_was_renamed() -> None:
    section = {"dataset": "test", "format": "ntu", "protocol": "xsub"}
    parsed = recipe.parse({"name": "test", "data": section, "gate": {"tolerated": ["leak", "sides"]}}, "of a test")
    assert parsed.gate.tolerated == ("leak", "overlap")


def test_a_cache_of_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = stores.recordings(8)
    store = stores.store(tmp_path / "clips", [*clips, replace(clips[4], name="again", frames=clips[4].frames + 1)])
    pairs = duplicates.near_duplicates(store, Silent(), tmp_path / "new.npz")
    (tmp_path / "new.npz").rename(tmp_path / "twins-test.npz")
    monkeypatch.delattr(duplicates, "signature")  # nothing is compared again
    cache = duplicates.cache_file(tmp_path, "test")
    assert cache.name == "near-duplicates-test.npz"
    assert not (tmp_path / "twins-test.npz").exists()
    assert duplicates.near_duplicates(store, Silent(), cache).equals(pairs)
    assert pairs["second"].tolist() == ["again"]
