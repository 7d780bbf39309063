"""Whose labels a semi-supervised protocol may use."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.data import labelled_fractions
from glt.errors import GltError
from glt.motion.disentangle import Motions, write_motions
from glt.reporter import Silent
from glt.training.finetune import draw_labelled
from tests.conftest import small_recipe, store

FRACTIONS = st.sampled_from([0.01, 0.05, 0.10, 0.25, 0.5, 1.0])
SEEDS = st.integers(0, 2**32 - 1)
CLIPS = st.lists(
    st.tuples(st.sampled_from(["jump", "walk", "wave", None]), st.sampled_from(["train", "train", "test", "unused"])),
    max_size=60,
)


def table(clips: list[tuple[str | None, str]], first: int = 0) -> pd.DataFrame:
    frame = pd.DataFrame(clips, columns=["label", "split"], dtype=object)
    return frame.assign(name=[f"clip{first + number:03d}" for number in range(len(frame))])


def drawn(index: pd.DataFrame, fraction: float, seed: int) -> set[str]:
    numbers = labelled_fractions.draw(index, fraction, seed)
    assert numbers.tolist() == sorted(set(numbers))
    return set(index["name"].iloc[numbers])


@given(CLIPS, FRACTIONS, SEEDS)
def test_every_class_gives_its_share_and_at_least_one(
    clips: list[tuple[str | None, str]], fraction: float, seed: int
) -> None:
    index = table(clips)
    train = index[(index["split"] == "train") & index["label"].notna()].set_index("name")
    chosen = train.loc[sorted(drawn(index, fraction, seed))]  # a KeyError if any is of no such clip
    wanted = {label: max(1, round(fraction * count)) for label, count in train["label"].value_counts().items()}
    assert chosen["label"].value_counts().to_dict() == wanted


@given(CLIPS, SEEDS)
def test_a_smaller_fraction_is_among_a_larger_one(clips: list[tuple[str | None, str]], seed: int) -> None:
    draws = [drawn(table(clips), fraction, seed) for fraction in (0.01, 0.05, 0.10, 0.3, 1.0)]
    assert all(small <= large for small, large in pairwise(draws))


@given(CLIPS, CLIPS, FRACTIONS, SEEDS, st.randoms())
def test_new_clips_change_no_more_of_a_list_than_they_must(
    old: list[tuple[str | None, str]], new: list[tuple[str | None, str]], fraction: float, seed: int, random: object
) -> None:
    few, grown = table(old), pd.concat([table(old), table(new, first=500)], ignore_index=True)
    grown = grown.iloc[random.sample(range(len(grown)), len(grown))].reset_index(drop=True)  # type: ignore[attr-defined]
    before, after, added = drawn(few, fraction, seed), drawn(grown, fraction, seed), set(table(new, first=500)["name"])
    labels = grown.set_index("name")["label"]
    for label in labels.dropna().unique():
        lost, won = ({n for n in names if labels[n] == label} for names in (before - after, after & added))
        assert len(lost) <= len(won)
        if lost:  # an old clip gives way to a new one only, never to another old one
            assert not {name for name in after - before - added if labels[name] == label}


def test_the_order_is_that_of_a_hash_of_seed_and_name() -> None:
    """Written out: another order would change whose labels published figures used."""
    index = table([("walk", "train")] * 40)
    order = sorted(index["name"], key=lambda name: hashlib.sha256(f"3 {name}".encode()).hexdigest())
    assert drawn(index, 0.1, 3) == set(order[:4])
    assert drawn(index, 0.1, 4) != set(order[:4])


def test_each_clip_is_drawn_equally_often() -> None:
    index = table([("walk", "train")] * 10)
    times = np.zeros(10)
    for seed in range(2000):
        times[labelled_fractions.draw(index, 0.3, seed)] += 1
    assert abs(times - 600).max() < 5 * (2000 * 0.3 * 0.7) ** 0.5


def test_the_lists_are_kept_with_the_motions_and_are_what_is_drawn(motions: Motions, tmp_path: Path) -> None:
    lists = pd.read_parquet(motions.path / "labelled.parquet")
    recipe = small_recipe()
    own = {(fraction, seed) for fraction in recipe.fractions for seed in recipe.seeds}
    kept_trials = set(zip(lists["fraction"], lists["seed"], strict=True))
    assert kept_trials == {(fraction, seed) for fraction in (0.01, 0.05, 0.10) for seed in range(5)} | own
    for (fraction, seed), rows in lists.groupby(["fraction", "seed"]):
        assert set(rows["name"]) == drawn(motions.index, fraction, seed)
        kept = labelled_fractions.read_list(motions.path, motions.index, fraction, seed)
        assert kept is not None
        assert kept.tolist() == labelled_fractions.draw(motions.index, fraction, seed).tolist()
    assert labelled_fractions.read_list(motions.path, motions.index, 0.2, 0) is None
    assert labelled_fractions.read_list(motions.path, motions.index, 0.05, 77) is None
    assert (
        labelled_fractions.read_list(tmp_path, motions.index, 0.05, 0) is None
    )  # motions written before lists were kept
    assert motions.info["data_version"] == "test"


def test_a_recipe_s_own_fractions_and_seeds_are_kept_too(tmp_path: Path) -> None:
    recipe = small_recipe().model_copy(update={"fractions": (0.3,), "seeds": (9,)})
    write_motions(store(), recipe, tmp_path / "m", {}, Silent())  # type: ignore[arg-type]
    own = Motions(tmp_path / "m")
    assert labelled_fractions.read_list(own.path, own.index, 0.3, 9) is not None


def test_fine_tuning_uses_the_list_that_is_kept(motions: Motions, tmp_path: Path) -> None:
    """Were the lists drawn anew, an edited list would not be followed."""
    lists = pd.read_parquet(motions.path / "labelled.parquet")
    train = set(motions.index["name"].iloc[motions.clip_ids("train", labelled=True)])
    (tmp_path / "m").mkdir()
    for file in motions.path.iterdir():
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    other = sorted(train - drawn(motions.index, 0.05, 0))[:2]
    edited = pd.concat([lists[lists["seed"] != 0], pd.DataFrame({"fraction": 0.05, "seed": 0, "name": other})])
    edited.to_parquet(tmp_path / "m" / "labelled.parquet")
    changed = Motions(tmp_path / "m", verify=False)
    assert changed.index["name"].iloc[draw_labelled(changed, 0.05, 0)].tolist() == other
    assert draw_labelled(changed, 0.2, 0).tolist() == labelled_fractions.draw(motions.index, 0.2, 0).tolist()
    with pytest.raises(GltError, match=r"labelled\.parquet: changed"):
        Motions(tmp_path / "m")
    tests = motions.index["name"].iloc[motions.clip_ids("test")[0]]
    edited.assign(name=tests).to_parquet(tmp_path / "m" / "labelled.parquet")
    with pytest.raises(GltError, match=f"labelled.parquet: {tests} is no labelled training clip"):
        draw_labelled(changed, 0.05, 0)


def test_clips_without_labels_have_empty_lists(tmp_path: Path) -> None:
    index = table([(None, "train"), ("walk", "test")])
    assert labelled_fractions.draw(index, 0.5, 0).tolist() == []
    labelled_fractions.write_lists(tmp_path, index, [(0.05, 0)])
    assert pq.read_table(tmp_path / "labelled.parquet").column_names == ["fraction", "seed", "name"]
    assert labelled_fractions.read_list(tmp_path, index, 0.05, 0) is None


def test_the_draw_is_the_same_in_every_process() -> None:
    root = Path(__file__).parents[2]
    code = (
        "import pandas as pd; from glt.data import labelled_fractions\n"
        "index = pd.DataFrame({'name': [f'clip{n:03d}' for n in range(50)], 'split': 'train'})\n"
        "index['label'] = ['a', 'b'] * 25\n"
        "print(*labelled_fractions.draw(index, 0.2, 5))"
    )
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    index = table([("a", "train"), ("b", "train")] * 25)
    assert list(map(int, run.stdout.split())) == labelled_fractions.draw(index, 0.2, 5).tolist(), run.stderr
