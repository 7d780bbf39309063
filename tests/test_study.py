"""Studies: every arm is a recipe of its own, and a wrong one ends in a message that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from glt import recipe
from glt.errors import GltError
from glt.recipe import study


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
