from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glt.data import duplicates, similarity
from glt.data.duplicates import leaks, near_duplicates
from glt.data.layouts import NTU25
from glt.data.recording import Recording
from glt.data.similarity import compare_whole
from glt.motion.disentangle import Motions, write_motions
from glt.reporter import Silent
from tests.data import recorded, stores

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, Change] = {
    "moved": lambda frames, random: frames + random.uniform(-2, 2, 3).astype(np.float32),
    "turned": lambda frames, random: stores.rotate(frames, random.uniform(-3, 3)).astype(np.float32),
    "noisy": lambda frames, random: frames + random.normal(0, 0.002, frames.shape).astype(np.float32),
    "trimmed": lambda frames, random: frames[random.integers(0, 4) : len(frames) - random.integers(1, 4)],
    "rounded": lambda frames, random: np.round(frames, 3),
    "resampled": lambda frames, random: similarity._resample(
        frames, np.ones(frames.shape[:2], bool), round(len(frames) * 1.5)
    )[0],
}
CHANGES["half"] = lambda frames, random: frames[len(frames) // 4 :][: max(10, len(frames) // 2)]
CHANGES["ten frames"] = lambda frames, random: frames[7:17]
CHANGES["half, changed"] = lambda frames, random: CHANGES["noisy"](
    CHANGES["turned"](CHANGES["moved"](CHANGES["half"](frames, random), random), random), random
)
CHANGES["all"] = lambda frames, random: CHANGES["noisy"](
    CHANGES["turned"](CHANGES["moved"](CHANGES["trimmed"](frames, random), random), random), random
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_recording_that_comes_again_changed_is_found(tmp_path: Path, change: str) -> None:
    random, clips = np.random.default_rng(1), stores.recordings(100)
    again = [
        replace(
            clip,
            name=f"again-{clip.name}",
            frames=(moved := CHANGES[change](clip.frames, random)),
            present=np.ones(moved.shape[:2], bool),
        )
        for clip in clips[::2]
    ]
    found = near_duplicates(stores.store(tmp_path / "clips", [*clips, *again]), Silent())
    pairs = {frozenset(pair) for pair in found[["first", "second"]].to_numpy().tolist()}
    planted = {frozenset((clip.name, f"again-{clip.name}")) for clip in clips[::2]}
    assert len(pairs & planted) >= 0.99 * len(planted)
    assert pairs <= planted


def test_persons_in_another_order_are_the_same_recording() -> None:
    frames = stores.take(3, persons=2)
    seen = np.ones(frames.shape[:2], bool)
    assert compare_whole(frames, seen, frames[:, ::-1], seen, NTU25).distance == pytest.approx(0, abs=1e-6)
    assert compare_whole(frames, seen, stores.take(4, persons=2), seen, NTU25).distance > 3 * similarity.NEAR
    assert compare_whole(frames, seen, frames, seen & [True, False], NTU25).distance == float("inf")


def test_takes_of_one_person_are_no_near_duplicates(tmp_path: Path) -> None:
    clips = [
        Recording(f"take-{number}", stores.take(number, who=3), np.ones((60, 1), bool), NTU25) for number in range(60)
    ]
    assert near_duplicates(stores.store(tmp_path / "clips", clips), Silent()).empty


def test_two_halves_that_overlap_are_found(tmp_path: Path) -> None:
    whole = stores.recordings(20)
    parts = [
        replace(clip, name=f"{name}-{clip.name}", frames=clip.frames[part], present=clip.present[part])
        for clip in whole
        for name, part in (
            ("first", slice(0, 2 * len(clip.frames) // 3)),
            ("last", slice(len(clip.frames) // 3, None)),
        )
    ]
    found = near_duplicates(stores.store(tmp_path / "clips", parts), Silent())
    assert {frozenset(pair) for pair in found[["first", "second"]].to_numpy().tolist()} == {
        frozenset((f"first-{clip.name}", f"last-{clip.name}")) for clip in whole
    }


def test_people_who_hardly_move_are_no_copies_of_themselves(tmp_path: Path) -> None:
    random, rest = np.random.default_rng(0), stores.person(1)
    clips = []
    for number in range(40):
        sway = np.cumsum(random.normal(0, 2e-4, (60, 1, 1, 3)), axis=0) + random.normal(0, 1e-3, (60, 1, 25, 3))
        clips.append(Recording(f"{number}", (rest + sway).astype(np.float32), np.ones((60, 1), bool), NTU25))
    copy = replace(clips[5], name="copy", frames=stores.rotate(clips[5].frames, 1.0).astype(np.float32))
    found = near_duplicates(stores.store(tmp_path / "clips", [*clips, copy]), Silent())
    assert found[["first", "second"]].to_numpy().tolist() == [["5", "copy"]]


def test_exact_copies_stand_with_the_first(tmp_path: Path) -> None:
    clips = stores.recordings(5)
    again = [replace(clips[2], name=name) for name in ("z1", "z2")]
    found = near_duplicates(stores.store(tmp_path / "clips", [*clips, *again]), Silent())
    assert found.to_numpy().tolist() == [[clips[2].name, name, "exact", 0.0] for name in ("z1", "z2")]


def test_a_leak_is_a_pair_across_the_splits_with_the_training_clip_first(tmp_path: Path) -> None:
    pairs = pd.DataFrame(
        [["a", "b", "exact", 0.0], ["c", "a", "near", 0.004], ["b", "d", "near", 0.001], ["e", "a", "exact", 0.0]],
        columns=["first", "second", "kind", "distance"],
    )
    splits = pd.Series({"a": "train", "b": "test", "c": "test", "d": "test", "e": "unused"})
    found = leaks(pairs, splits)
    assert found[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"]]
    index = pd.DataFrame({"name": list("abcde"), "label": ["x", "x", "y", None, "y"]})
    said = duplicates.findings(pairs, index, splits.to_numpy())
    assert [(finding.check, finding.severity) for finding in said] == [
        *[("duplicates", "warning")] * 2,
        ("leak", "alarm"),
    ]
    assert said[-1].text.startswith("2 of 3 test recordings have a duplicate in the training split (1 of x, 1 of y)")
    assert said[-1].names == ("b", "c")


def test_one_clip_has_no_duplicate(tmp_path: Path) -> None:
    assert near_duplicates(stores.store(tmp_path / "clips", stores.recordings(1)), Silent()).empty


def test_only_new_clips_are_compared_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random, clips = np.random.default_rng(1), stores.recordings(40)

    def again(clip: Recording, name: str) -> Recording:
        return replace(clip, name=name, frames=CHANGES["noisy"](CHANGES["turned"](clip.frames, random), random))

    first = [*clips, again(clips[3], "a-of-3"), again(clips[7], "z-of-7")]
    second = [clip for clip in first if clip is not clips[0]]  # one went, three came
    second += [again(clips[5], "b-of-5"), again(clips[7], "y-of-7"), *stores.recordings(1, first=500)]
    cache, aligned = tmp_path / "near-duplicates.npz", []
    signed: list[int] = []
    match = duplicates._match
    monkeypatch.setattr(duplicates, "_match", lambda *given: aligned.append(1) or match(*given))
    monkeypatch.setattr(duplicates, "signature", lambda *given: signed.append(1) or similarity.signature(*given))
    old, new = stores.store(tmp_path / "old", first), stores.store(tmp_path / "new", second)
    assert near_duplicates(old, Silent(), cache).equals(near_duplicates(old, Silent()))
    signed.clear()
    aligned.clear()
    remembered = near_duplicates(new, Silent(), cache)
    assert len(signed) == 3
    assert len(aligned) <= 6
    fresh = near_duplicates(new, Silent())
    assert (
        groups(remembered)
        == groups(fresh)
        == {
            frozenset({clips[3].name, "a-of-3"}),
            frozenset({clips[5].name, "b-of-5"}),
            frozenset({clips[7].name, "y-of-7", "z-of-7"}),
        }
    )
    signed.clear()
    aligned.clear()
    assert near_duplicates(new, Silent(), cache).equals(remembered)
    assert not signed
    assert not aligned


def groups(pairs: pd.DataFrame) -> set[frozenset[str]]:
    found: list[set[str]] = []
    for pair in pairs[["first", "second"]].to_numpy().tolist():
        joined = [group for group in found if group & set(pair)]
        found = [group for group in found if group not in joined] + [set(pair).union(*joined)]
    return {frozenset(group) for group in found}


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100, None])
def test_a_damaged_cache_is_written_again(tmp_path: Path, content: bytes | None) -> None:
    clips = stores.recordings(20)
    store = stores.store(tmp_path / "clips", [*clips, replace(clips[4], name="again", frames=clips[4].frames + 1)])
    cache = tmp_path / "near-duplicates.npz"
    if content is None:
        with cache.open("wb") as stream:
            np.savez(stream, of=np.array("another version"))
    else:
        cache.write_bytes(content)
    assert near_duplicates(store, Silent(), cache)["second"].tolist() == ["again"]
    with np.load(cache) as kept:
        assert len(kept["sha256"]) == 21


def test_clips_have_the_same_original_through_a_third(tmp_path: Path) -> None:
    index = pd.DataFrame({"name": list("abcde"), "sha256": ["1", "2", "3", "2", "5"]})
    pairs = pd.DataFrame(
        [("b", "d", "exact", 0.0), ("a", "c", "near", 0.001), ("b", "c", "near", 0.002)],
        columns=["first", "second", "kind", "distance"],
    )
    assert duplicates.originals(pairs, index).tolist() == ["1", "1", "1", "1", "5"]
    assert duplicates.originals(pairs.iloc[:1], index).tolist() == ["1", "2", "3", "2", "5"]
    assert duplicates.originals(pairs.iloc[:0], index).tolist() == ["1", "2", "3", "2", "5"]


@pytest.mark.fault("a part of a test clip, nearly the same, in the training split", "data.deduplicate leaves it out")
def test_deduplication_leaves_out_a_part_of_a_test_clip(tmp_path: Path) -> None:
    clips = stores.recordings(12)
    long = next(clip for clip in clips if clip.subject == 3 and len(clip.frames) > 40)
    noise = np.random.default_rng(0).normal(0, 0.001, (20, *long.frames.shape[1:]))
    part = (long.frames[10:30] + noise).astype(np.float32)
    cut = replace(long, name="S001C001P001R001A099", subject=1, frames=part, present=long.present[10:30])
    store = stores.store(tmp_path / "clips", [*clips, cut])
    for deduplicate, split, clean in ((False, "train", False), (True, "unused", True)):
        recipe = recorded.recipe(
            protocol="column", column="subject", test_values=[3, 4], persons=2, deduplicate=deduplicate
        )
        write_motions(store, recipe, tmp_path / f"motions-{deduplicate}", {}, Silent())
        index = Motions(tmp_path / f"motions-{deduplicate}").index.set_index("name")
        assert index["split"][cut.name] == split
        assert bool(index["clean"][long.name]) == clean
        assert index["original"][cut.name] == index["original"][long.name]
        assert index["clean"].sum() == len(index) - (not clean)


def test_parts_of_planar_clips_are_found(tmp_path: Path) -> None:
    """The size of a body in an image differs from part to part of a clip."""
    layout = replace(NTU25, unit="image height")
    clips = []
    for number in range(12):
        frames = stores.take(number, number, 60) * np.float32([0.3, 0.3, 0])
        frames *= np.linspace(0.5, 3, 60, dtype=np.float32)[:, None, None, None]  # somebody comes nearer
        clips.append(Recording(f"clip{number}", frames, np.ones((60, 1), bool), layout))
        if number % 2:
            clips.append(Recording(f"part{number}", frames[:32], np.ones((32, 1), bool), layout))
    pairs = near_duplicates(stores.store(tmp_path / "clips", clips), Silent())
    assert set(zip(pairs["first"], pairs["second"], strict=True)) == {(f"clip{n}", f"part{n}") for n in range(1, 12, 2)}
