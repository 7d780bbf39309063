"""Recipes: every wrong one ends in a message that names the field."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from glt import recipe
from glt.analysis import summary
from glt.errors import GltError
from glt.motion.augment import augment, draw
from glt.motion.displacement import fit_bins, targets
from glt.motion.packed import Packed
from glt.recipe import Recipe, study

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
        ("motion.intervals", [1, 0], "motion.intervals.1: "),
        ("motion.intervals", [5, 5], "motion: .*intervals"),
        ("motion.intervals", [1, 300], "motion.intervals: .*model.max_frames"),
        ("motion", {"bins": "fixed", "magnitude_classes": 16}, "motion: .*magnitude_classes: the fixed bins have 15"),
        ("pretrain", {"lambda_direction": 0, "lambda_magnitude": 0}, "pretrain: .*nothing would be learned"),
        ("fractions", [0.05, 1.5], "fractions.1: "),
        ("fractions", [0.05, 0.05], "fractions and seeds: a value is given twice"),
        ("seeds", [], "seeds: "),
        ("seeds", [-1], "seeds.0: "),
        ("seeds", [2, 2], "fractions and seeds: a value is given twice"),
        ("seed", -1, "seed: "),
        ("seed", 2**32, "seed: "),
        ("probe.pool", ["median"], "probe.pool.0: .*'mean', 'max', 'min' or 'std'"),
        ("gate.alpha", 0, "gate.alpha: "),
        ("fractions", [], "fractions: give at least 1 value"),
        ("fractions", [0.05, 0.05000000001], "fractions and seeds: a value is given twice"),
        ("motion.magnitude_classes", 129, "magnitude_classes: .*less than or equal to 128"),
        ("pretrain.epochs", True, "pretrain.epochs: yes, no, true or false"),
        ("pretrain.lr", 10**400, "pretrain.lr: "),
        ("pretrain.epochs", 10**400, "pretrain.epochs: "),
        ("seeds", [False], "seeds: yes, no, true or false"),
        ("name", False, "name: yes, no, true or false"),
        ("probe.regularisation", [0.1, 0], "probe.regularisation.1: "),
        ("model", {"heads": 512, "head_dim": 512}, "model: heads x head_dim"),
        ("model", [1], "model: a section, so `key: value` lines"),
        ("model", None, "model: a section, so `key: value` lines"),
        ("pretrain.epoch", 3, r"pretrain.epoch: unknown key, did you mean epochs\?"),
        ("epochs", 3, r"epochs: unknown key, did you mean pretrain.epochs or probe.epochs"),
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


def test_the_end_of_every_bound_makes_a_model_and_targets() -> None:
    """Of every number of a recipe; what two fields may not be together is an error."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(40, 1, 25, 3, generator=generator)
    batch = Packed(tokens, torch.ones(40, 1, dtype=torch.bool), (12, 28))
    tried = 0
    for path, value in ends(Recipe):
        with contextlib.suppress(GltError):
            tried += 1
            extreme = recipe.parse(fields(path, value), path)
            if path.startswith(("model.", "motion.")):
                summary.Pretraining(extreme)
            if path.startswith("motion."):
                bins = fit_bins(batch, extreme.motion)
                classes = targets(batch, bins).magnitude
                assert 0 <= classes.min() <= classes.max() < bins.classes, path
            if path.startswith("pretrain.augment."):
                drawn = draw(extreme.pretrain.augment, extreme.seed, 3, [0, 1])
                changed = augment(batch, extreme.pretrain.augment, drawn, extreme.model, 1, range(25)).tokens
                assert torch.isfinite(changed).all(), path
    assert tried > 100


def ends(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Dotted names of all numbers of a recipe, and for each both ends of its bounds."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from ends(field.annotation, f"{prefix}{name}.")
        elif field.annotation in (int, float, int | None, float | None):
            bounds = [
                getattr(one, side) for one in field.metadata for side in ("ge", "gt", "le", "lt") if hasattr(one, side)
            ]
            assert len(bounds) == 2, f"{prefix}{name} has a lower and an upper bound"
            steps = (0, 1, -1) if field.annotation in (int, int | None) else (0, 1e-9, -1e-9)
            yield from ((f"{prefix}{name}", bound + step) for bound in bounds for step in steps)


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
    (tmp_path / "inner").mkdir()
    base.write_text("extends: inner/../mine.yaml\n")
    with pytest.raises(GltError, match=r"base.yaml: extends itself"):
        recipe.load(str(base))
    base.write_text("name: base\nextends: [sample, nw-ucla]\n")
    with pytest.raises(GltError, match=r"base.yaml: extends: give the name or path of one recipe"):
        recipe.load(str(base))


@pytest.mark.fault("a recipe that extends another in its folder", "the path is relative to the recipe's folder")
def test_extends_starts_at_the_recipes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, seed in (("there", 1), ("here", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "base.yaml").write_text(yaml.safe_dump(fields("seed", seed)))
    (tmp_path / "there" / "mine.yaml").write_text("extends: base.yaml\n")
    (tmp_path / "there" / "study.yaml").write_text("name: x\nrecipe: mine.yaml\narms: {a: {}}\n")
    monkeypatch.chdir(tmp_path / "here")
    assert recipe.load("../there/mine.yaml").seed == 1
    assert study.load("../there/study.yaml").base.seed == 1
    (tmp_path / "there" / "base.yaml").unlink()
    assert recipe.load("../there/mine.yaml").seed == 2  # as before: from where the command runs
    (tmp_path / "here" / "base.yaml").unlink()
    with pytest.raises(GltError, match=r"mine.yaml: extends: recipe \.\./there/base.yaml: no such file"):
        recipe.load("../there/mine.yaml")


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
