"""Pretrained on one set, probed on another: what two layouts have in common is enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from glt import artifact
from glt.steps import data, training
from tests.steps.recordings import RECIPE, name, text, write


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLT_RUN_ID", "across-sets")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def own_format(folder: Path) -> None:
    """Sixteen recordings of a Kinect v1 in the project's own format."""
    folder.mkdir()
    (folder / "skeleton.yaml").write_text("layout: kinect20\n")
    rows = ["name,label,subject"]
    for number in range(16):
        steps = np.random.default_rng(number).normal(0.01 * (number % 2), 0.01, (20, 20, 3)).cumsum(axis=0)
        np.savez(folder / f"take{number}.npz", frames=steps + np.array([0, 1, 3]))
        rows.append(f"take{number},{'ab'[number % 2]},{number // 2}")
    (folder / "labels.csv").write_text("\n".join(rows))


def test_an_encoder_of_one_set_is_probed_on_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = {**RECIPE["data"], "layout": "common14"}  # type: ignore[dict-item]
    first = yaml.safe_dump({**RECIPE, "data": common})
    write(tmp_path / "in.zip", {name(subject): text() for subject in (1, 2, 3)})
    data.ingest(str(tmp_path / "in.zip"), first, tmp_path / "clips")
    data.disentangle(tmp_path / "clips", first, tmp_path / "motions")
    training.pretrain(tmp_path / "motions", first, tmp_path / "encoder", accelerator="cpu")

    held = {"protocol": "column", "column": "subject", "test_values": [6, 7]}
    second = yaml.safe_dump({**RECIPE, "data": {**common, "dataset": "other", "format": "table", **held}})
    own_format(tmp_path / "other")
    data.ingest(str(tmp_path / "other"), second, tmp_path / "others", page=tmp_path / "page.html")
    data.disentangle(tmp_path / "others", second, tmp_path / "other-motions")
    metrics = training.linear_probe(
        tmp_path / "other-motions", tmp_path / "encoder", second, tmp_path / "probe", accelerator="cpu"
    )
    assert 0 <= metrics["probe/top1"] <= 1

    lost = artifact.open_artifact(tmp_path / "others", "clips")["lost"]
    assert lost == ["hip centre", "left ankle", "left wrist", "right ankle", "right wrist", "spine"]
    assert "6 joints of the recordings are not in layout common14" in (tmp_path / "page.html").read_text()
    assert "left hand tip" in artifact.open_artifact(tmp_path / "clips", "clips")["lost"]
