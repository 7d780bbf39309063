"""Studies: every arm is a recipe of its own, and a wrong one ends in a message that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from glt import recipe
from glt.errors import GltError
from glt.recipe import study
from pipelines.__main__ import app
from pipelines.parameters import LIMIT, check_size, size


def write(folder: Path, **fields: Any) -> str:
    whole = {"name": "mine", "recipe": "sample", "arms": {"full": {}, "apart": {"model": {"person_attention": False}}}}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(whole | fields, sort_keys=False), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", study.names())
def test_a_shipped_study_has_arms_that_differ_and_name_themselves(name: str) -> None:
    loaded = study.load(name)
    assert loaded.name == name
    recipes = loaded.recipes()
    assert len(recipes) == len(loaded.arms) * len(loaded.seeds)
    assert {(one.arm, one.seed) for one in recipes} == {(arm, seed) for arm in loaded.arms for seed in loaded.seeds}
    settings = {one.model_copy(update={"arm": ""}).to_json() for one in recipes}
    assert len(settings) == len(recipes), "two arms are the same"
    assert {one.model_copy(update={"arm": "", "seed": 0}) for one in recipes if one.arm == "full"} == {loaded.base}
    assert {arm for arms in loaded.tables.values() for arm in arms} == set(loaded.arms)


def test_the_paper_s_experiments_are_what_its_tables_say() -> None:
    arms = {one.arm: one for one in study.load("nw-ucla").recipes(seeds=(0,))}
    for name in ("mixed", "local-only", "direction-only", "interval-1"):
        assert arms[name].motion.intervals == (1,)
        assert (arms[name].pretrain.lambda_magnitude == 0) == (name != "interval-1")
    assert arms["mixed"].motion.global_translation == "mixed"
    assert arms["local-only"].motion.global_translation == "none"
    assert arms["full"].motion.intervals == (1, 5, 10)
    assert (arms["fixed-25"].model.max_frames, arms["fixed-25"].model.speed) == (25, "fixed")
    assert [arms[f"masked-{share}"].pretrain.augment.mask for share in ("05", "10", "15", "20")] == [
        0.05,
        0.1,
        0.15,
        0.2,
    ]
    assert {one.pretrain.epochs for one in arms.values()} == {arms["full"].pretrain.epochs}, "an equal budget"


def test_some_arms_and_seeds(tmp_path: Path) -> None:
    loaded = study.load(write(tmp_path, seeds=[0, 1, 2]))
    chosen = loaded.recipes(seeds=(2,), arms=("apart",))
    assert [(one.arm, one.seed) for one in chosen] == [("apart", 2)]
    assert not chosen[0].model.person_attention
    assert chosen[0].data == recipe.load("sample").data
    assert [loaded.first_seeds(count) for count in (0, 2, 3)] == [(0, 1, 2), (0, 1), (0, 1, 2)]


def test_arms_and_seeds_that_there_are_not_or_twice_are_refused(tmp_path: Path) -> None:
    loaded = study.load(write(tmp_path, seeds=[0, 1, 2]))
    with pytest.raises(GltError, match="study mine: an arm or a seed is given twice"):
        loaded.recipes(arms=("apart", "apart"))
    with pytest.raises(GltError, match="study mine: an arm or a seed is given twice"):
        loaded.recipes(seeds=(1, 1))
    with pytest.raises(GltError, match="study mine: no arm without a name; it has"):
        loaded.recipes(arms=("apart", ""))
    with pytest.raises(GltError, match="study mine: 99 seeds, but it has 3"):
        loaded.first_seeds(99)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--arms", "full,full"), "study sample: an arm or a seed is given twice"),
        (("--arms", ",,"), "study sample: no arm without a name"),
        (("--seeds", "99"), "study sample: 99 seeds, but it has"),
    ],
)
def test_wrong_arms_on_the_command_line_are_refused(options: tuple[str, str], says: str) -> None:
    for command in (("arms", "sample"), ("ablate", "--study", "sample")):
        answer = CliRunner().invoke(app, [*command, *options])
        assert isinstance(answer.exception, GltError)
        assert says in str(answer.exception)


def test_spaces_around_the_names_of_arms_are_no_part_of_them() -> None:
    answer = CliRunner().invoke(app, ["arms", "sample", "--arms", "full, persons-apart", "--seeds", "1"])
    assert [recipe.load(one["recipe"]).arm for one in json.loads(answer.output)] == ["full", "persons-apart"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"arms": {"x": {"model": {"depht": 2}}}}, "arm x of study mine.*model.depht: unknown key"),
        ({"arms": {"x": {"data": {"persons": 1}}}}, "arm x of study mine: changes `data`"),
        ({"arms": {}}, "arms"),
        ({"arms": {"No Name": {}}}, "arms.No Name.*: use lower-case letters"),
        ({"tables": {"table-1": ["nowhere"]}}, "tables.table-1: no such arm: nowhere"),
        ({"seeds": [1, 1]}, "seeds: a value is given twice"),
        ({"recipe": "nowhere"}, "unknown recipe 'nowhere'"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_study_is_named(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(GltError, match=says):
        study.load(write(tmp_path, **fields)).recipes()


def test_an_unknown_study_or_arm_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(GltError, match="unknown study 'nope': take one of nw-ucla, sample, sbu"):
        study.load("nope")
    with pytest.raises(GltError, match="no arm nope; it has full, apart"):
        study.load(write(tmp_path)).recipes(arms=("nope",))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(GltError, match="not YAML"):
        study.load(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize("name", study.names())
def test_the_arms_of_a_shipped_study_are_small_parameters(name: str) -> None:
    loaded = study.load(name)
    recipes = loaded.recipes()
    items = study.items(recipes)
    assert [recipe.load(item["recipe"]) for item in items] == recipes
    assert len({item["recipe"] for item in items}) == len(items)
    parameters = {"arms": items, "recipe": loaded.base.to_json()}
    assert size(parameters) < {"nw-ucla": 10_000}.get(name, 4_000)  # 143,000 and 21,000 as whole recipes
    check_size("ablation", parameters)


def test_an_arm_s_text_is_that_of_its_resolved_recipe(tmp_path: Path) -> None:
    """The cache finds results by this text: it differs if and only if the recipe does."""
    changed = {"model": {"person_attention": False}, "data": {"max_rejects": 0.5}}
    base = recipe.with_changes(recipe.load("sample"), {"name": "of-my-own", **changed}, "mine")
    (tmp_path / "base.yaml").write_text(base.to_json(), encoding="utf-8")
    arms = {"full": {}, "apart": {"model": {"person_attention": True}}, "fast": {"pretrain": {"lr": 0.0123}}}
    one = study.load(write(tmp_path, recipe="base.yaml", arms=arms)).recipes()
    texts = [item["recipe"] for item in study.items(one)]
    assert [recipe.load(text) for text in texts] == one
    # The same fields by another way: the base changes what the arm changed, and the arm changes it back.
    moved = recipe.with_changes(base, {"model": {"person_attention": True}}, "mine")
    (tmp_path / "base.yaml").write_text(moved.to_json(), encoding="utf-8")
    other = study.load(write(tmp_path, recipe="base.yaml", arms=arms)).recipes()
    same = [item["recipe"] for item in study.items(other)]
    assert [a == b for a, b in zip(texts, same, strict=True)] == [a == b for a, b in zip(one, other, strict=True)]
    assert same[1] == texts[1]
    assert same[0] != texts[0]


@pytest.mark.parametrize("name", recipe.names())
def test_a_short_text_is_its_recipe(name: str) -> None:
    whole = recipe.load(name)
    assert recipe.load(recipe.short_text(whole)) == whole
    far = recipe.with_changes(
        whole, {"seed": 7, "data": {"rate": 12.5, "checks": {}}, "fractions": [0.5], "motion": {"intervals": [2]}}, name
    )
    assert recipe.load(recipe.short_text(far)) == far
    assert len(recipe.short_text(far)) < 300


def test_a_zero_has_no_sign_so_equal_recipes_have_equal_text() -> None:
    base = recipe.load("sample")
    signed = recipe.with_changes(base, {"model": {"dropout": -0.0}}, "arm")
    plain = recipe.with_changes(base, {"model": {"dropout": 0.0}}, "arm")
    assert signed.to_json() == plain.to_json()


@pytest.mark.parametrize("extra", [{}, {"recipe": "x" * 119_000}])
def test_parameters_above_the_limit_are_refused(extra: dict[str, str]) -> None:
    base = {"name": "é" * 100}
    check_size("ablation", {"recipe": "x" * (LIMIT - size({"recipe": ""}))})
    with pytest.raises(
        GltError, match=r"parameters of the graph ablation: 1[23]\d,\d{3} bytes, but .* 120,000"
    ) as caught:
        check_size("ablation", {**base, "arms": [{"recipe": "y" * (119_900 if not extra else 1_000)}], **extra})
    largest = "recipe" if extra else "arms"
    assert f"the largest is {largest} with 1" in str(caught.value)


@pytest.mark.parametrize(("name", "most"), [("arms", 66), ("trials", 133)])
def test_more_results_than_one_step_can_be_given_are_refused(name: str, most: int) -> None:
    items = [{"recipe": "a"}] * most
    check_size("ablation", {name: items})
    with pytest.raises(
        GltError, match=rf"{most + 1} {name}, but .* at most {most} to the next step: .*(fewer|take arms)"
    ):
        check_size("ablation", {name: [*items, {"recipe": "a"}]})
