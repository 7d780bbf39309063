"""Recipes: every wrong one ends in a message that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from glt import recipe
from glt.errors import GltError
from glt.recipe import Recipe

DATA = {"dataset": "mine", "format": "ntu", "protocol": "xsub"}


def fields(path: str = "", value: object = None) -> dict[str, Any]:
    """A good recipe's fields, with the one at the dotted `path` set to `value`."""
    result: dict[str, Any] = {"name": "mine", "data": dict(DATA)}
    section = result
    *sections, last = path.split(".")
    for name in sections:
        section = section.setdefault(name, {})
    if last:
        section[last] = value
    return result


@pytest.mark.parametrize("name", recipe.names())
def test_a_shipped_recipe_loads_and_keeps_its_name(name: str) -> None:
    loaded = recipe.load(name)
    assert loaded.name == name
    fold = f"-{loaded.data.fold}" if loaded.data.protocol == "5-fold" else ""
    assert loaded.model_name == f"glt-{loaded.data.dataset}-{loaded.data.protocol}{fold}"
    assert loaded.experiment == f"{loaded.data.dataset}-{loaded.data.protocol}{fold}"


@pytest.mark.parametrize("name", recipe.names())
def test_the_text_form_is_the_recipe(name: str) -> None:
    loaded = recipe.load(name)
    again = recipe.load(loaded.to_json())
    assert again == loaded
    assert again.to_json() == loaded.to_json()


def test_a_recipe_from_a_file_or_text_equals_its_fields(tmp_path: Path) -> None:
    expected = recipe.parse(fields("pretrain.lr", 5e-5), "here")
    text = yaml.safe_dump(fields("pretrain.lr", "5e-5"))  # YAML reads 5e-5, without a point, as text
    (tmp_path / "mine.yaml").write_text(text)
    assert recipe.load(str(tmp_path / "mine.yaml")) == expected
    assert recipe.load(text) == expected
    assert recipe.load(f"  {expected.to_json()}") == expected


def test_defaults_are_the_paper() -> None:
    paper = recipe.parse(fields(), "here")
    assert (paper.model.max_frames, paper.model.depth, paper.model.heads, paper.model.width) == (300, 4, 8, 48)
    assert paper.motion.intervals == (1, 5, 10)
    assert (paper.pretrain.lr, paper.pretrain.epochs, paper.pretrain.batch) == (5e-4, 120, 128)
    assert (paper.pretrain.lambda_direction, paper.pretrain.lambda_magnitude) == (1, 1)
    assert (paper.probe.lr, paper.probe.batch) == (3e-3, 1024)
    assert paper.fractions == (0.05, 0.10)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("pretrain.epoch", 3, "pretrain.epoch: unknown key"),
        ("colour", "red", "colour: unknown key"),
        ("pretrain.augment.sheer", 0.1, "pretrain.augment.sheer: unknown key"),
        ("pretrain.epochs", "many", "pretrain.epochs: .*integer"),
        ("pretrain.epochs", 2.5, "pretrain.epochs: .*integer"),
        ("pretrain.epochs", 0, "pretrain.epochs: .*greater than or equal to 1"),
        ("pretrain", 5, "pretrain: "),
        ("pretrain.lr", float("inf"), "pretrain.lr: .*finite"),
        ("pretrain.lr", float("nan"), "pretrain.lr: "),
        ("model.dropout", 1.0, "model.dropout: .*less than 1"),
        ("model.tables", "sinusoidal", "model.tables: .*'shared' or 'per-block'"),
        ("data.format", "bvh", "data.format: .*'ntu', 'nw-ucla', 'sbu', 'pyskl' or 'table'"),
        ("data.fold", 6, "data.fold: "),
        ("data.dataset", "My Data", "data.dataset: "),
        ("motion.intervals", [], "motion.intervals: "),
        ("motion.intervals", [1, 0], "motion: .*intervals"),
        ("motion.intervals", [5, 5], "motion: .*intervals"),
        ("motion.intervals", [1, 300], "motion.intervals: .*model.max_frames"),
        ("motion", {"bins": "fixed", "magnitude_classes": 16}, "motion: .*magnitude_classes: the fixed bins have 15"),
        ("pretrain", {"lambda_direction": 0, "lambda_magnitude": 0}, "pretrain: .*nothing would be learned"),
        ("fractions", [0.05, 1.5], "fractions: "),
        ("fractions", [0.05, 0.05], "fractions and seeds: each once"),
        ("seeds", [], "seeds: "),
        ("seeds", [-1], "seeds.0: "),
        ("seeds", [2, 2], "fractions and seeds: each once"),
        ("seed", -1, "seed: "),
        ("seed", 2**32, "seed: "),
        ("probe.pool", ["median"], "probe.pool.0: .*'mean', 'max', 'min' or 'std'"),
        ("gate.alpha", 0, "gate.alpha: "),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object, words: str) -> None:
    with pytest.raises(GltError, match=f"^recipe here: .*{words}"):
        recipe.parse(fields(path, value), "here")


def test_former_names_of_fields_are_read(tmp_path: Path) -> None:
    """In recipes, also over a recipe that has the present name; in changes of a study; in stored JSON."""
    file = tmp_path / "mine.yaml"
    file.write_text("extends: sample\nmodel: {frames: 40}\n")
    sample = recipe.load("sample")
    assert recipe.load(str(file)).model == sample.model.model_copy(update={"max_frames": 40})
    assert recipe.with_changes(sample, {"model": {"frames": 41}}, "here").model.max_frames == 41
    stored = sample.model_dump(mode="json")
    stored["model"]["frames"] = stored["model"].pop("max_frames")
    assert recipe.load(json.dumps(stored)) == recipe.parse(stored, "here") == sample
    assert "frames" not in sample.model_dump()["model"]


@pytest.mark.parametrize("missing", ["name", "data"])
def test_a_missing_field_is_named(missing: str) -> None:
    incomplete = fields()
    del incomplete[missing]
    with pytest.raises(GltError, match=f"{missing}: Field required"):
        recipe.parse(incomplete, "here")


def test_every_problem_is_named_at_once() -> None:
    wrong = fields("pretrain.epochs", "many") | {"colour": "red"}
    with pytest.raises(GltError, match=r"pretrain\.epochs.*; colour: unknown key"):
        recipe.parse(wrong, "here")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(GltError, match=r"unknown recipe 'smaple': take one of .*sample"):
        recipe.load("smaple")


@pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(GltError, match=f"{name}: no such file"):
        recipe.load(str(tmp_path / name))


@pytest.mark.parametrize("content", [b"a: [1,\n", b"\xff\xfe\x00\x01", b"- a\n- b\n", b"just words\n", b""])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(GltError, match=r"recipe .*mine\.yaml: "):
        recipe.load(str(tmp_path / "mine.yaml"))


def test_a_recipe_cannot_be_changed() -> None:
    loaded: Recipe = recipe.load("sample")
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 1  # type: ignore[misc]


def test_a_recipe_says_how_it_differs_from_another(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(fields("pretrain.augment.shear", 0.1)))
    (tmp_path / "mine.yaml").write_text(f"name: other\nextends: {base}\npretrain: {{epochs: 7, augment: {{yaw: 5}}}}\n")
    loaded = recipe.load(str(tmp_path / "mine.yaml"))
    assert (loaded.name, loaded.data.dataset, loaded.pretrain.epochs) == ("other", "mine", 7)
    assert (loaded.pretrain.augment.shear, loaded.pretrain.augment.yaw) == (0.1, 5)
    assert "extends" not in loaded.to_json()
    base.write_text(f"extends: {tmp_path / 'mine.yaml'}\n")
    with pytest.raises(GltError, match=r"mine.yaml: extends itself"):
        recipe.load(str(tmp_path / "mine.yaml"))
    base.write_text("name: base\nextends: [sample, nw-ucla]\n")
    with pytest.raises(GltError, match=r"base.yaml: extends: give the name or path of one recipe"):
        recipe.load(str(base))


PAPER = ("nw-ucla", "ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset")


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_recipes_have_its_settings(name: str) -> None:
    """Sec. 4.2; and the authors' code where it differs."""
    paper, reference = recipe.load(f"{name}-paper"), recipe.load(f"{name}-reference")
    small = name == "nw-ucla"
    assert {r.experiment for r in (paper, reference)} == {recipe.load(name).experiment}
    assert paper.model.max_frames == (50 if small else 300)
    assert paper.data.persons == (1 if small else 2)
    assert (paper.model.depth, paper.model.heads, paper.model.head_dim) == (4, 8, 6)
    assert (paper.pretrain.epochs, paper.probe.epochs) == ((300, 300) if small else (120, 120))
    assert (paper.pretrain.lr, paper.pretrain.batch, paper.pretrain.schedule) == (5e-4, 128, "exponential")
    assert (paper.probe.lr, paper.probe.batch, paper.probe.solver, paper.probe.features) == (3e-3, 1024, "adam", "head")
    assert (paper.motion.intervals, paper.motion.bins, paper.motion.edge) == ((1, 5, 10), "fixed", "zero")
    changed = {
        (section, key)
        for section in ("data", "motion", "model", "pretrain", "probe", "finetune")
        for key, value in getattr(paper, section).model_dump().items()
        if getattr(reference, section).model_dump()[key] != value
    }
    assert changed == {
        ("motion", "yaw"), ("motion", "edge"), ("model", "tables"), ("model", "positional_start"),
        ("model", "attention_dropout"), ("model", "longer"), ("pretrain", "lr"), ("pretrain", "global_intervals"),
    }  # fmt: skip
