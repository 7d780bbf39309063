from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glt.analysis import examples
from glt.analysis.report import write_report
from glt.data import clip_warnings
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.recipe import parse

from .conftest import HOSTILE, VERDICT, Run, make_run, recordings

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements, ids and text; fails on a tag that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def named(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(out: Path, run: Run, **changed: Any) -> Page:
    write_report(out, **run.arguments(**changed))
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_says_what_the_run_was(run: Run, tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", run).text
    assert text.index("Promoted") < text.index("Scores")
    for said in (
        "Better than the untrained encoder: <b>right</b> on 7 clips.",
        "10 of 13",  # the probe, all clips
        "1 of the 13 test clips are leaked",
        "24 clips train (groups 1, 2), 13 test (groups 3)",
        "55.0 % ± 7.1",  # two draws at 5 %
        "0.035",
        "3 decisions were made on this validation split before",
        "clips, 2 files rejected",
        "3 epochs",
    ):
        assert said in text, said


def test_manifest_and_page_count_the_same_warnings(run: Run, tmp_path: Path) -> None:
    index = run.clips.index
    assert run.clips.info["warned"] == clip_warnings.to_dict(index)
    assert clip_warnings.count(index) > 0
    assert clip_warnings.describe(index) in page(tmp_path / "report.html", run).text


def test_the_page_is_whole_accessible_and_alone(run: Run, tmp_path: Path) -> None:
    whole = page(tmp_path / "report.html", run)
    ids = [attributes["id"] for _, attributes in whole.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert whole.named("html")[0]["lang"] == "en"
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in whole.elements}
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in whole.named("svg"))
    assert all(a.get("scope") in {"row", "col"} for a in whole.named("th"))
    assert whole.elements.count(("caption", {})) >= 3
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\((?!#)|@import|\bsrc=", re.sub(r"&lt;.*?&gt;", "", raw))
    assert "default-src 'none'" in raw
    assert len(raw) < 3_000_000


def test_strings_from_outside_are_escaped_and_no_link_runs_a_script(run: Run, tmp_path: Path) -> None:
    links = {
        "MLflow <run>": "https://host/#/runs/1?a=1&b=2",
        "bad": "javascript:alert(1)",
        "odd": " javascript:alert(1)",
    }
    whole = page(tmp_path / "report.html", run, links=links, verdict={**VERDICT, "baseline": '"><script>x</script>'})
    assert {a["href"] for a in whole.named("a")} == {"https://host/#/runs/1?a=1&b=2"}
    assert whole.text.count("https://host/#/runs/1?a=1&b=2") == 1  # MLflow's preview opens no link: it can be copied
    assert HOSTILE in whole.text
    assert "MLflow <run>" in whole.text
    assert "script" not in {tag for tag, _ in whole.elements}


@pytest.mark.parametrize(
    ("changed", "headline"),
    [
        ({"passed": False, "reason": "not promoted, no clear gain"}, "Not promoted No clear gain."),
        ({"passed": False, "already": True, "reason": "already in service as champion v2"}, "Already in service"),
    ],
)
def test_the_verdict_of_a_model_that_stays(run: Run, tmp_path: Path, changed: dict[str, Any], headline: str) -> None:
    assert headline in page(tmp_path / "report.html", run, verdict={**VERDICT, **changed}).text


@pytest.mark.parametrize(
    ("changed", "test"),
    [({}, "McNemar test over clips"), ({"test": "subjects", "subjects": 5}, "t-test on the gains of 5 subjects")],
    ids=["clips", "subjects"],
)
def test_the_test_is_named(run: Run, tmp_path: Path, changed: dict[str, Any], test: str) -> None:
    assert f"{test}: had both models" in page(tmp_path / "report.html", run, verdict={**VERDICT, **changed}).text


def test_without_leak_and_without_fine_tuning(tmp_path: Path) -> None:
    data = {"dataset": "tiny", "format": "nw-ucla", "protocol": "cross-view", "max_rejects": 1}
    run = make_run(tmp_path, parse({"name": "tiny", "data": data}, "test"), recordings(tmp_path / "r.zip", leak=False))
    text = page(tmp_path / "report.html", run, finetunes=[]).text
    assert "all test clips are clean" in text
    assert "Clean clips" not in text
    assert "This run fine-tuned no classifier" in text


def test_unlabelled_clips_are_counted(run: Run, tmp_path: Path) -> None:
    clips, motions = run.clips, Motions(run.motions.path)
    hidden = np.flatnonzero(motions.index["split"] == "train")[:5]
    motions.index.loc[hidden, "label"] = None
    text = page(tmp_path / "report.html", run, clips=clips, motions=motions).text
    assert "5 training clips carry no label" in text
    assert "unlabelled 5 0" in text


def test_folders_that_do_not_belong_are_rejected_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(GltError, match="holds 'encoder', expected 'classifier'"):
        write_report(out, **run.arguments(classifier=run.encoder))
    with pytest.raises(GltError, match="no fraction and seed"):
        write_report(out, **run.arguments(finetunes=[run.classifier]))
    motions = Motions(run.motions.path)
    motions.index = motions.index.iloc[1:]
    with pytest.raises(GltError, match="not made from"):
        write_report(out, **run.arguments(motions=motions))
    assert not out.exists()


def test_examples_are_training_clips_of_different_classes_that_move_ever_less(run: Run) -> None:
    clip_ids = examples.choose(run.motions)
    rows = run.motions.index.iloc[clip_ids]
    assert rows["label"].nunique() == 3
    assert set(rows["split"]) == {"train"}
    assert rows["label"].tolist() == ["drop trash", "pick up with two hands", "pick up with one hand"]
    figure = examples.draw(run.clips, run.motions, run.recipe, clip_ids[0])
    assert figure.get_suptitle().startswith("drop trash (a03_")


@pytest.mark.skipif("GLT_REAL_DATA" not in os.environ, reason="GLT_REAL_DATA is unset: no real recordings here")
def test_a_page_on_real_recordings_of_two_persons(tmp_path: Path) -> None:
    source = Path(os.environ["GLT_REAL_DATA"]) / "sbu" / "sbu_kinect_interaction_clean.zip"
    data = {"dataset": "sbu", "format": "sbu", "protocol": "5-fold", "persons": 2}
    run = make_run(tmp_path, parse({"name": "sbu", "data": data}, "test"), source)
    whole = page(tmp_path / "report.html", run)
    assert "282 clips of 15 joints (sbu15)" in whole.text
    assert sum("augmented copy" in a.get("aria-label", "") for a in whole.named("svg")) == 3
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
