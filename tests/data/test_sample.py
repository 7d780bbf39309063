"""The sample recordings: bytes, format, bodies, and what makes them hard."""

import hashlib
import io
import re
import zipfile

import numpy as np
import pytest

from glt.data.sample import recordings as sample
from glt.data.sample.actions import ACTIONS, Subject, perform
from glt.data.sample.skeleton_model import Body, joints, mirror, pose, turn
from glt.data.sample.stable_random import StableRandom

NAME = re.compile(r"S\d{3}C00[1-3]P00[1-8]R00[12](A(\d{3})|-\d{3})\.skeleton")


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sample") / sample.ARCHIVE
    sample.write_sample(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def texts(archive) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


def test_bytes_are_those_that_data_dvc_pins(archive):
    assert hashlib.md5(archive).hexdigest() == sample.MD5
    assert len(archive) < 40e6


def test_known_random_numbers():
    """splitmix64 as published: the generator seeded with 0 starts with this number."""
    random = StableRandom()
    assert int(random.bits(1)[0]) == 0xE220A8397B1DCDAF
    assert int(random.bits(1)[0]) == 0x6E789E6AA1B965F4


def test_draws_of_one_purpose_do_not_depend_on_another():
    several, one = StableRandom(5, 1), StableRandom(5, 1)
    StableRandom(5, 2).bits(10)
    assert np.array_equal(several.bits(4), np.concatenate([one.bits(1), one.bits(3)]))
    assert not np.array_equal(StableRandom(5, 1).bits(4), StableRandom(1, 5).bits(4))


def test_normal_draws_have_mean_zero_and_variance_one():
    drawn = StableRandom(9).normal(200_000)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01


def test_archive_is_stored_with_fixed_times(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        entries = opened.infolist()
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(2022, 1, 1, 0, 0, 0)}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)


def test_recordings_cover_subjects_cameras_and_actions(texts):
    assert len(texts) == 480
    assert all(NAME.fullmatch(name) for name in texts)
    labels = [match[2] for name in texts if (match := NAME.fullmatch(name)) and match[2]]
    assert 0.06 < 1 - len(labels) / len(texts) < 0.14
    counts = {label: labels.count(label) for label in labels}
    assert set(counts) == {f"{number:03d}" for number in ACTIONS}
    assert min(counts.values()) > 35


def test_lengths_vary(texts):
    lengths = [int(text.split("\n", 1)[0]) for text in texts.values()]
    assert min(lengths) == 20
    assert max(lengths) == 90
    assert np.std(lengths) > 15


def test_files_follow_the_format(texts):
    damaged = {take.name for take in sample.takes() if take.serial in sample.DAMAGES}
    assert len(damaged) == 5
    bodies = []
    for name, text in list(texts.items())[::7]:
        if name in damaged:
            continue
        lines = text.split("\n")
        assert lines.pop() == ""
        lines.reverse()
        for _ in range(int(lines.pop())):
            bodies.append(int(lines.pop()))
            for _ in range(bodies[-1]):
                identity, *rest = lines.pop().split()
                assert int(identity) > 2**56
                assert len(rest) == 9
                assert lines.pop() == "25"
                columns = [lines.pop().split() for _ in range(25)]
                assert {len(row) for row in columns} == {12}
                assert {row[-1] for row in columns} <= {"1", "2"}
                assert np.isfinite([[float(value) for value in row] for row in columns]).all()
        assert not lines
    assert set(bodies) == {0, 1, 2}


def test_damages_are_what_they_say(texts):
    by_serial = {take.serial: texts[take.name] for take in sample.takes() if take.serial in sample.DAMAGES}
    whole = {s: sample.skeleton_text(sample.record(t), 4 * s) for t in sample.takes() if (s := t.serial) in by_serial}
    truncated, nan, nobody, twenty, garbled = (by_serial[serial] for serial in sorted(by_serial))
    first = min(by_serial)
    assert whole[first].startswith(truncated)
    assert len(truncated) < len(whole[first])
    assert nan.count("NaN") == 3
    assert set(nobody.split("\n")[1:]) == {"0", ""}
    assert twenty.split("\n")[3] == "20"
    assert "," in garbled


def test_pairs_hold_the_same_poses_in_opposite_order():
    numbers = sorted(ACTIONS)
    for there, back in zip(numbers[::2], numbers[1::2], strict=True):
        forwards, backwards = ACTIONS[there], ACTIONS[back]
        assert np.array_equal(forwards.actor, backwards.actor[::-1])
        assert backwards.backwards("").shares == forwards.shares
    assert sum(action.partner is not None for action in ACTIONS.values()) == 2


def test_bones_keep_their_length():
    subject = Subject.of(4)
    bones = ((4, 5, "upper_arm"), (9, 10, "forearm"), (12, 13, "thigh"), (17, 18, "shin"), (0, 20, "trunk"))
    for action in (ACTIONS[121], ACTIONS[123]):
        frames = perform(action, [subject], 60, StableRandom(1))[0]
        for a, b, length in bones:
            bone = np.sqrt(((frames[:, a] - frames[:, b]) ** 2).sum(-1))
            np.testing.assert_allclose(bone, getattr(subject.body, length), rtol=1e-9)


def test_movement_is_smooth():
    """Without the sensor's noise no joint jumps: under 15 m/s at 30 frames a second."""
    for number in ACTIONS:
        cast = [Subject.of(1), Subject.of(2)][: 1 + (ACTIONS[number].partner is not None)]
        for body in perform(ACTIONS[number], cast, 90, StableRandom(number)):
            assert np.sqrt((np.diff(body, axis=0) ** 2).sum(-1)).max() < 0.5


def test_figure_at_rest_stands_on_the_ground():
    body = Body()
    rest = joints(pose()[None], body)[0]
    assert rest[3, 1] > 1.4
    assert rest[[14, 18], 1] == pytest.approx(0, abs=0.03)
    assert rest[4, 0] > 0 > rest[8, 0]
    assert rest[15, 2] > rest[14, 2]


def test_mirror_exchanges_the_sides():
    poses = pose(right=(0.2, 0.5, 0.3), lean=(0.1, 0.2), twist=(0.1,))[None]
    there, back = joints(poses, Body())[0], joints(mirror(poses), Body())[0]
    np.testing.assert_allclose(there[8:12] * [-1, 1, 1], back[4:8], atol=1e-12)
    assert np.array_equal(mirror(mirror(poses)), poses)


def test_turn_is_a_rotation():
    points = np.array([[0.3, 1.0, -0.4]])
    quarter = turn(points, 1.0)
    np.testing.assert_allclose(quarter, [[-0.4, 1.0, -0.3]], atol=1e-12)


def test_sensor_loses_joints_frames_and_bodies():
    seen = [sample.record(take) for take in sample.takes()[:120]]
    assert any(not view.tracked.any(axis=1).all() for view in seen)
    assert any(view.tracked.shape[1] == 2 and not view.tracked[0].all() for view in seen)
    lost = np.concatenate([1 - view.reliable.ravel() for view in seen]).mean()
    assert 0.002 < lost < 0.01
