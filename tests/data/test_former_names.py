"""Files written before columns and checks got their present names are still read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from glt import artifact, recipe
from glt.data import findings
from glt.data.findings import Finding
from glt.motion.disentangle import Motions


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
