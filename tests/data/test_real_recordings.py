"""The readers against the real data sets; GLT_REAL_DATA names the folder that holds nw-ucla/, sbu/ and ntu/."""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from glt.data import labelled_fractions, splits
from glt.data.clips import ClipStore
from glt.data.drift import drift, summarise
from glt.data.duplicates import near_duplicates
from glt.data.formats.ntu import on_missing_list
from glt.data.ingest import ingest
from glt.data.layout_mapping import to_layout
from glt.data.layouts import COMMON14
from glt.data.recording import Recording
from glt.reporter import Silent
from tests.data.recorded import recipe
from tests.data.test_drift import quiet

MISSING = "it is on NTU's list of recordings with missing skeletons"


def real(place: str) -> Path:
    root = os.environ.get("GLT_REAL_DATA")
    if not root:
        pytest.skip("GLT_REAL_DATA is unset: it names the folder of the real recordings")
    path = Path(root) / place
    if not path.exists():
        pytest.skip(f"GLT_REAL_DATA has no {place}")
    return path


def store(tmp_path_factory: pytest.TempPathFactory, place: str, **data: object) -> ClipStore:
    recordings, out = real(place), tmp_path_factory.mktemp("real") / "clips"
    ingest(recordings, recipe(**data), out, {}, Silent(), out.with_name("segments"))
    return ClipStore(out)


@pytest.fixture(scope="module")
def nw_ucla(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    return store(tmp_path_factory, "nw-ucla/all_sqe.zip", format="nw-ucla", protocol="cross-view")


@pytest.fixture(scope="module")
def sbu(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    return store(tmp_path_factory, "sbu/sbu_kinect_interaction_clean.zip", format="sbu", protocol="5-fold", persons=2)


@pytest.fixture(scope="module")
def ntu(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    return store(tmp_path_factory, "ntu/raw", persons=2, max_rejects=0.1)


def bones(clips: ClipStore) -> dict[str, float]:
    """Median length of each bone, metres."""
    pairs = np.array(clips.skeleton.bones)
    lengths = []
    for number in range(len(clips.index)):
        frames, present = clips.clip(number)
        seen = frames[present]
        lengths.append(np.linalg.norm(seen[:, pairs[:, 0]] - seen[:, pairs[:, 1]], axis=2))
    joints = clips.skeleton.joints
    medians = np.median(np.concatenate(lengths), axis=0)
    return {joints[b]: float(length) for (_, b), length in zip(clips.skeleton.bones, medians, strict=True)}


def forward(frames: np.ndarray, clips: ClipStore) -> np.ndarray:
    """Where bodies [N, K, 3] face, if left and right are their own and y is up."""
    left, right = clips.skeleton.shoulders
    return np.cross(frames[:, left] - frames[:, right], [0.0, 1.0, 0.0])


def toes_point_forward(clips: ClipStore) -> float:
    joints = clips.skeleton.joints
    ankle, foot = joints.index("left ankle"), joints.index("left foot")
    bodies = np.concatenate([frames[present] for frames, present in map(clips.clip, range(len(clips.index)))])
    return float((((bodies[:, foot] - bodies[:, ankle]) * forward(bodies, clips)).sum(axis=1) > 0).mean())


def test_nw_ucla_counts(nw_ucla: ClipStore) -> None:
    index = nw_ucla.index
    assigned = splits.assign(index, recipe("nw-ucla", "cross-view").data)
    clean = splits.clean_mask(index, assigned)
    assert (len(index), len(nw_ucla.rejected), index["label"].nunique()) == (1484, 0, 10)
    assert Counter(assigned) == {"train": 1020, "test": 464}
    assert (~clean).sum() == 95
    without = splits.split(index, recipe("nw-ucla", "cross-view", deduplicate=True).data)
    assert Counter(without["split"]) == {"train": 925, "test": 464, "unused": 95}
    assert without["clean"].all()
    assert (without["split"] == "test").tolist() == (assigned == "test").tolist()
    assert set(index["label"][~clean]) == {"pick up with two hands", "drop trash"}
    assert index["warnings"][index["length"] == 1].tolist() == ["short: 1 frames, fewer than 2"] * 2


def test_nw_ucla_is_in_metres_and_faces_forward(nw_ucla: ClipStore) -> None:
    length = bones(nw_ucla)
    assert 0.40 < length["left knee"] < 0.52
    assert 0.33 < length["left ankle"] < 0.45
    assert length["left elbow"] == pytest.approx(length["right elbow"], abs=0.02)
    assert toes_point_forward(nw_ucla) > 0.85


def test_sbu_counts_and_folds(sbu: ClipStore) -> None:
    assert (len(sbu.index), len(sbu.rejected), sbu.index["label"].nunique()) == (282, 0, 8)
    assert sbu.index["subject"].nunique() == 21
    assert sbu.index["persons"].eq(2).all()
    tests = [splits.assign(sbu.index, recipe("sbu", "5-fold", fold=fold).data) == "test" for fold in range(1, 6)]
    assert np.sum(tests, axis=0).tolist() == [1] * 282


def test_sbu_is_in_metres_and_people_face_each_other(sbu: ClipStore) -> None:
    length = bones(sbu)
    assert length["left knee"] == pytest.approx(0.424, abs=0.02)
    assert length["left foot"] == pytest.approx(0.409, abs=0.02)
    assert length["left hand"] == pytest.approx(0.280, abs=0.02)
    torso = sbu.skeleton.joints.index("torso")
    facing = []
    for number in range(len(sbu.index)):
        frames, _ = sbu.clip(number)
        other = frames[:, 1, torso] - frames[:, 0, torso]
        facing += [
            (forward(frames[:, 0], sbu) * other).sum(axis=1) > 0,
            (forward(frames[:, 1], sbu) * -other).sum(axis=1) > 0,
        ]
    assert np.concatenate(facing).mean() > 0.85


def test_ntu_counts(ntu: ClipStore) -> None:
    assert len(ntu.index) == 10
    assert ntu.rejected.to_dict("records") == [
        {"source": "S001C003P005R002A004.skeleton", "check": "missing-list", "reason": MISSING}
    ]
    two = ntu.index["label"].isin(["A050", "A055", "A057"])
    assert ntu.index["persons"].tolist() == (1 + two).tolist()
    assert ntu.index.set_index("name")["length"]["S001C001P001R001A001"] == 103


def test_ntu_is_in_metres_and_faces_forward(ntu: ClipStore) -> None:
    length = bones(ntu)
    assert 0.3 < length["left knee"] < 0.5
    assert toes_point_forward(ntu) > 0.85


@pytest.mark.parametrize(
    ("names", "protocol", "train", "test"),
    [
        ("ntu60", "xsub", 40_091, 16_487),
        ("ntu60", "xview", 37_646, 18_932),
        ("ntu120", "xsub", 63_026, 50_919),
        ("ntu120", "xset", 54_468, 59_477),
    ],
)
@pytest.mark.parametrize("format", ["ntu", "pyskl", "table"])
def test_ntu_protocols_give_the_published_counts(format: str, names: str, protocol: str, train: int, test: int) -> None:
    assigned = splits.assign(ntu_names(names), recipe(format, protocol).data)
    assert Counter(assigned) == {"train": train, "test": test}


def test_five_percent_of_ntu_s_labels_are_drawn_alike_of_every_class() -> None:
    index = ntu_names("ntu60")
    index = index.assign(split=splits.assign(index, recipe("ntu", "xsub").data))
    train = index[index["split"] == "train"]
    for fraction in (0.01, 0.05, 0.10):
        drawn = index.iloc[labelled_fractions.draw(index, fraction, 0)]
        assert drawn["label"].nunique() == 60
        shares = drawn["label"].value_counts() / train["label"].value_counts()
        assert shares.between(fraction - 0.001, fraction + 0.001).all()


def ntu_names(names: str) -> pd.DataFrame:
    """The columns that a clip's name gives, of all recordings with skeletons."""
    with gzip.open(real(f"ntu/lists/{names}_recording_names.txt.gz"), "rt") as lines:
        found = [re.fullmatch(r"S(\d+)C(\d+)P(\d+)R\d+(A\d+)", line.strip()) for line in lines]
    rows = [(match[0], *map(int, match.groups()[:3]), match[4]) for match in found if match]
    return pd.DataFrame(rows, columns=["name", "setup", "camera", "subject", "label"])


@pytest.mark.parametrize(
    ("dataset", "listed", "missing", "total"), [("60", "", 302, 56_880), ("120", "120", 535, 114_480)]
)
def test_the_lists_of_missing_skeletons_are_the_official_ones(
    dataset: str, listed: str, missing: int, total: int
) -> None:
    text = real(f"ntu/lists/NTU_RGBD{listed}_samples_with_missing_skeletons.txt").read_text()
    names = set(re.findall(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}", text))
    usable = set(gzip.decompress(real(f"ntu/lists/ntu{dataset}_recording_names.txt.gz").read_bytes()).decode().split())
    assert (len(names), len(names | usable)) == (missing, total)
    assert all(map(on_missing_list, names))
    assert not any(map(on_missing_list, usable))


def test_nw_ucla_has_near_duplicates_that_are_not_equal(nw_ucla: ClipStore) -> None:
    """Parts of one recording under two names, five pairs of them with two labels: donning and doffing."""
    pairs = near_duplicates(nw_ucla, Silent())
    assert (pairs["kind"] == "exact").sum() == 95
    near = pairs[pairs["kind"] == "near"]
    assert near[["first", "second"]].to_numpy().tolist() == [
        ["a08_s01_e01_v01", "a08_s01_e01_v02"],
        ["a08_s01_e02_v02", "a09_s01_e01_v01"],
        ["a08_s01_e03_v01", "a09_s01_e03_v02"],
        ["a08_s01_e03_v02", "a09_s01_e02_v01"],
        ["a08_s01_e04_v01", "a09_s01_e04_v02"],
        ["a08_s01_e04_v02", "a09_s01_e03_v01"],
        ["a09_s01_e00_v01", "a09_s01_e00_v02"],
        ["a09_s01_e01_v01", "a09_s01_e01_v02"],
        ["a09_s01_e02_v01", "a09_s01_e02_v02"],
    ]
    assert (near["distance"] == 0).all()


def test_other_sets_have_no_near_duplicates(sbu: ClipStore, ntu: ClipStore) -> None:
    for store in (sbu, ntu):
        assert near_duplicates(store, Silent()).empty


def test_random_halves_of_nw_ucla_raise_nothing_in_95_percent_of_draws(nw_ucla: ClipStore) -> None:
    draws = 60
    assert quiet(summarise(nw_ucla, Silent()), draws) >= stats.binom.ppf(0.001, draws, 0.95)


def test_one_camera_of_nw_ucla_is_unlike_another(nw_ucla: ClipStore, tmp_path: Path) -> None:
    """Drift that is real: view 3 sees people from another side, at another height."""
    whole = summarise(nw_ucla, Silent(), clips=len(nw_ucla.index))
    camera = nw_ucla.index["camera"].to_numpy()
    one, three = (
        replace(whole, measured={name: column[camera == view] for name, column in whole.measured.items()})
        for view in (1, 3)
    )
    assert any(finding.severity == "alarm" for finding in drift(one, three))


@pytest.mark.parametrize("place", ["nw_ucla", "sbu", "ntu"])
def test_bones_keep_their_lengths_in_the_common_layout(place: str, request: pytest.FixtureRequest) -> None:
    store: ClipStore = request.getfixturevalue(place)
    frames, present = store.clip(0)
    clip = to_layout(Recording("x", frames, present, store.skeleton), COMMON14)
    seen = clip.frames[:, 0][clip.present[:, 0]]
    ends = np.array(COMMON14.bones)
    lengths = np.median(np.linalg.norm(seen[:, ends[:, 0]] - seen[:, ends[:, 1]], axis=-1), axis=0)
    assert (lengths > 0.05).all()
    assert (lengths < 0.85).all()
