"""What the documentation shows runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from docs.make import faults
from glt.analysis.data_report import analyse_clips
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.recording import Rejection
from glt.data.skeleton_yaml import parse_skeleton, parse_skeleton_file
from glt.reporter import Silent
from tests.data.recorded import recipe

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_example_of_our_own_format_is_a_data_set(tmp_path: Path) -> None:
    (code,) = blocks("formats.md", "python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    settings = recipe(format="table", protocol="random-subjects")
    ingest(tmp_path / "my-recordings", settings, tmp_path / "clips", {}, Silent(), tmp_path / "segments")
    clips = ClipStore(tmp_path / "clips")
    assert len(clips.index) == 40
    assert set(clips.index["label"]) == {"wave", "nod"}
    assert clips.rejected.empty
    assert clips.skeleton.name == "kinect20"
    found = analyse_clips(clips, settings, Silent())
    assert [finding for finding in found.findings if finding.severity == "alarm"] == []
    assert set(clips.index["warnings"]) == {""}


def test_the_declared_layout_is_one() -> None:
    converted, text = blocks("formats.md", "yaml")
    assert parse_skeleton_file(converted).coordinates.factors == (0.001, -0.001, -0.001)
    layout = parse_skeleton(text)
    assert (layout.name, len(layout.joints), layout.rate) == ("upper-body", 8, 30.0)
    assert yaml.safe_load(text)["shoulders"] == [layout.joints[joint] for joint in layout.shoulders]


def test_the_example_of_a_format_reads_and_rejects() -> None:
    (code,) = blocks("extend.md", "python")
    assert len(code.splitlines()) < 100
    room: dict[str, object] = {}
    exec(code, room)
    form = room["FORMAT"]
    (arm,) = form.read("x/wave_3.arm", b"0,1,3,0.2,1,3,0.4,1,3\n0,1,3,0.2,1,3,0.4,1.1,3\n", {})  # type: ignore[attr-defined]
    assert (arm.label, arm.subject, arm.skeleton.name) == ("wave", 3, "arm")
    np.testing.assert_allclose(arm.frames[1, 0, 2], [0.4, 1.1, 3], rtol=1e-6)
    for name, content in (
        ("wave.arm", b"1"),
        ("wave_3.arm", b"a,b"),
        ("wave_3.arm", b"1,2\n"),
        ("wave_3.arm", b"\xff"),
    ):
        with pytest.raises(Rejection):
            list(form.read(name, content, {}))  # type: ignore[attr-defined]


def test_the_page_of_faults_is_that_of_the_tests() -> None:
    made = faults.page(faults.collect(), faults.read_record())
    assert faults.PAGE.read_text(encoding="utf-8") == made, "run: python -m docs.make.faults"


@pytest.mark.parametrize(
    "source",
    [
        "FAULT = pytest.mark.fault('a', 'b')\n",
        "@pytest.mark.fault('a', promise)\ndef test_x(): ...\n",
        "@pytest.mark.fault('a')\ndef test_x(): ...\n",
    ],
)
def test_a_fault_that_cannot_be_read_from_the_source_is_an_error(tmp_path: Path, source: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(source)
    with pytest.raises(ValueError, match=r"tests/test_x\.py:1: "):
        faults.collect(tmp_path)


def test_a_fault_has_the_worst_outcome_of_its_tests() -> None:
    held = [faults.Fault("a | b", "stays", "tests/test_x.py", f"test_{name}") for name in ("one", "other_one")]
    record = {held[0].test_id: {"commit": "abc", "outcome": "holds"}}
    made = faults.page(held, record)
    links = "[one](../tests/test_x.py); [other one](../tests/test_x.py)"
    assert f"| a \\| b | stays | holds (`abc`), not run yet | {links} |\n" in made


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
