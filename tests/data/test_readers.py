from __future__ import annotations

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt.data.checks import accept
from glt.data.formats import FORMATS, ntu, nw_ucla, sbu
from glt.data.recording import Recording, Rejection
from tests.data import recorded

NAME = "S001C002P003R001A004.skeleton"
VALID = {
    "ntu": (NAME, recorded.one_person(1)),
    "nw-ucla": ("a01_s02_e03_v01.json", recorded.nw_ucla(recorded.walk(1, joints=20))),
    "sbu": (recorded.SBU_NAME, recorded.sbu(1)),
}


@st.composite
def text_frames(draw: st.DrawFn) -> list[dict[str, np.ndarray]]:
    """Frames of up to three bodies that come and go."""
    bodies = draw(st.lists(st.integers(10**16, 10**17).map(str), min_size=1, max_size=3, unique=True))
    seed = draw(st.integers(0, 2**32 - 1))
    seen = draw(st.lists(st.lists(st.sampled_from(bodies), unique=True), max_size=6))
    random = np.random.default_rng(seed)
    return [{body: random.normal(0, 1, (25, 3)).astype(np.float32) for body in frame} for frame in seen]


@given(text_frames(), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_as_skeleton_is_read_again(frames: list[dict[str, np.ndarray]], end: str) -> None:
    recording = ntu.read(f"anywhere/{NAME}", recorded.skeleton(frames, end))
    order = list(dict.fromkeys(body for frame in frames for body in frame))
    assert recording.present.shape == (len(frames), len(order))
    for number, frame in enumerate(frames):
        for person, body in enumerate(order):
            assert recording.present[number, person] == (body in frame)
            expected = frame.get(body, np.zeros((25, 3), np.float32))
            np.testing.assert_array_equal(recording.frames[number, person], expected)


@pytest.mark.parametrize("format", sorted(VALID))
@settings(max_examples=150)
@given(data=st.data())
def test_damage_is_rejected_or_harmless_and_nothing_else(format: str, data: st.DataObject) -> None:
    name, content = VALID[format]
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 200)) | st.just(len(content)))
    insides = data.draw(
        st.binary(max_size=40) | st.sampled_from([b"nan", b"-1", b"9" * 30, b"1e999", b"[", b"\0", b" "])
    )
    reader = FORMATS[format]
    with contextlib.suppress(Rejection):
        (recording,) = reader.read(name, content[:start] + insides + content[stop:], {})
        assert isinstance(recording, Recording)
        clip = accept(recording, recorded.recipe(persons=2).data)
        assert clip.frames.shape == (len(clip.present), 2, len(recording.skeleton.joints), 3)
        assert np.isfinite(clip.frames).all()
        assert clip.present[[0, -1]].any(axis=1).all()


@pytest.mark.parametrize("format", sorted(VALID))
@given(content=st.binary(max_size=200))
def test_noise_is_rejected(format: str, content: bytes) -> None:
    reader = FORMATS[format]
    with pytest.raises(Rejection):
        [accept(recording, recorded.recipe().data) for recording in reader.read(VALID[format][0], content, {})]


@given(st.integers(0, len(VALID["ntu"][1]) - 2))
def test_a_skeleton_file_that_was_cut_off_is_rejected(end: int) -> None:
    with pytest.raises(Rejection):
        ntu.read(NAME, VALID["ntu"][1][:end])


def test_a_skeleton_file_that_goes_on_is_rejected() -> None:
    with pytest.raises(Rejection, match="goes on after its last frame"):
        ntu.read(NAME, VALID["ntu"][1] + b"1\n")


def test_damage_costs_no_memory() -> None:
    with pytest.raises(Rejection, match="not a number of frames"):
        ntu.read(NAME, b"999999999\n0\n")
    many = [{str(body): np.zeros((25, 3), np.float32) for body in range(101)}]
    with pytest.raises(Rejection, match="101 persons"):
        ntu.read(NAME, recorded.skeleton(many))


def test_ntu_name_gives_the_columns() -> None:
    recording = ntu.read(f"x/{NAME}", recorded.one_person(1))
    assert (recording.name, recording.label) == ("S001C002P003R001A004", "A004")
    assert (recording.setup, recording.camera, recording.subject, recording.replication) == (1, 2, 3, 1)


@pytest.mark.parametrize("name", ["S001C002P003R001.skeleton", "S001C002P003R001-12.skeleton"])
def test_ntu_name_without_action_is_unlabelled(name: str) -> None:
    assert ntu.read(name, recorded.one_person(1)).label is None


@pytest.mark.parametrize("name", ["x.skeleton", "S1C2P3R1A4.skeleton", f"old-{NAME}"])
def test_other_names_are_rejected(name: str) -> None:
    with pytest.raises(Rejection, match="expected SsssCcccPpppRrrrAaaa"):
        ntu.read(name, recorded.one_person(1))


def test_ntu_joint_count_that_changes_is_rejected() -> None:
    frames = [{"1": recorded.walk(1)[0]}, {"1": recorded.walk(1, joints=20)[0]}]
    with pytest.raises(Rejection, match="25 joints in one frame, 20 in frame 2"):
        ntu.read(NAME, recorded.skeleton(frames))


def test_a_body_id_twice_in_a_frame_keeps_the_first() -> None:
    first, second = recorded.walk(1, 2)
    twice = recorded.skeleton([{"1": first, "2": second}]).replace(b"\n2 0 1", b"\n1 0 1")
    recording = ntu.read(NAME, twice)
    np.testing.assert_array_equal(recording.frames[0], first[None])
    assert recording.warnings == ("body: 1 twice in a frame, the first is kept",)


def test_nw_ucla_label_and_name() -> None:
    positions = recorded.walk(3, joints=20)
    recording = nw_ucla.read("all/a08_s02_e03_v01.json", recorded.nw_ucla(positions, 7))
    assert (recording.name, recording.label) == ("a08_s02_e03_v01", "donning")
    assert (recording.subject, recording.replication, recording.camera, recording.setup) == (2, 3, 1, None)
    np.testing.assert_array_equal(recording.frames[:, 0], positions)
    assert nw_ucla.read("a08_s02_e03_v01.json", recorded.nw_ucla(positions, None)).label is None


@pytest.mark.parametrize("label", [0, 11, "1", 2.0, True, [1]])
def test_nw_ucla_unknown_label_is_rejected(label: object) -> None:
    content = json.dumps({"skeletons": recorded.walk(1, joints=20).tolist(), "label": label}).encode()
    with pytest.raises(Rejection, match="expected 1 to 10"):
        nw_ucla.read("a01_s01_e01_v01.json", content)


def test_nw_ucla_label_against_its_name_is_rejected() -> None:
    with pytest.raises(Rejection, match="the name says action a01, the label 2 is a02"):
        nw_ucla.read("a01_s01_e01_v01.json", recorded.nw_ucla(recorded.walk(1, joints=20), 2))


@pytest.mark.parametrize(
    ("content", "check"),
    [
        (b"[]", "format"),
        (b"{}", "format"),
        (b'{"skeletons": []}', "empty"),
        (b'{"skeletons": 3}', "joints"),
        (b'{"skeletons": [[1, 2]]}', "joints"),
        (b'{"skeletons": [[[1, 2, 3]], []]}', "joints"),
        (b'{"skeletons": [[[1, 2, {}]]]}', "joints"),
        (b"[" * 100_000, "format"),
    ],
)
def test_nw_ucla_other_json_is_rejected(content: bytes, check: str) -> None:
    with pytest.raises(Rejection) as caught:
        nw_ucla.read("a01_s01_e01_v01.json", content)
    assert caught.value.check == check


def test_nw_ucla_json_that_would_take_a_gigabyte_is_rejected() -> None:
    with pytest.raises(Rejection, match="more than 16 MiB") as caught:
        nw_ucla.read("a01_s01_e01_v01.json", b'{"skeletons": [' + b"[]," * (6 << 20) + b"[]]}")
    assert caught.value.check == "too-large"


@pytest.mark.parametrize("hole", [b"null", b"NaN", b"-Infinity", b"1e999"])
def test_a_hole_in_the_json_is_rejected(hole: bytes) -> None:
    content = b'{"skeletons": [[%s]]}' % b",".join([b"[0, 1, %s]" % hole] * 20)
    with pytest.raises(Rejection) as caught:
        accept(nw_ucla.read("a01_s01_e01_v01.json", content), recorded.recipe().data)
    assert caught.value.check == "finite"


def test_sbu_is_turned_into_metres_and_upright() -> None:
    line = ["7"] + ["0.5", "0.5", "2"] * 15 + ["0.25", "0.75", "1"] * 15
    recording = sbu.read("any/s07s03/08/002/skeleton_pos.txt", ",".join(line).encode() + b"\r\n")
    np.testing.assert_allclose(recording.frames[0, 0], np.tile([0, 0, 2.56], (15, 1)), atol=1e-6)
    np.testing.assert_allclose(recording.frames[0, 1], np.tile([0.64, -0.48, 1.28], (15, 1)), atol=1e-6)
    assert (recording.name, recording.label) == ("s07s03-08-002", "punching")
    assert (recording.subject, recording.replication) == (21, 2)


@pytest.mark.fault("an SBU text of 130 MB", "rejected before its numbers are read")
def test_sbu_frames_are_counted_before_they_are_read() -> None:
    tracemalloc.start()
    with pytest.raises(Rejection, match="more than 5000000 points"):
        sbu.read(recorded.SBU_NAME, b",".join([b"1"] * 91).ljust(650) * 200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20


def test_sbu_person_of_zeros_is_absent() -> None:
    line = ["1"] + ["0.5", "0.5", "2"] * 15 + ["0"] * 45
    recording = sbu.read(recorded.SBU_NAME, ",".join(line).encode())
    assert recording.present.tolist() == [[True, False]]
    assert not recording.frames[0, 1].any()


def test_sbu_names_in_upper_case_are_taken() -> None:
    assert sbu.read("S01S02/04/001/SKELETON_POS.TXT", recorded.sbu(1)).name == "s01s02-04-001"


@pytest.mark.parametrize(
    "name", ["skeleton_pos.txt", "s01s02/09/001/skeleton_pos.txt", "s01s09/01/001/skeleton_pos.txt"]
)
def test_sbu_other_places_are_rejected(name: str) -> None:
    with pytest.raises(Rejection, match="expected <pair>/<action>/<take>"):
        sbu.read(name, recorded.sbu(1))


def encoded(content: bytes, how: str) -> bytes:
    text = content.decode()
    return {
        "BOM": text.encode("utf-8-sig"),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "CR": text.replace("\n", "\r").encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without BOM": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
    }[how]


@pytest.mark.parametrize("how", ["BOM", "CRLF", "CR"])
@pytest.mark.fault("a recording's text with a byte order mark or with the line ends of another system", "taken")
def test_texts_of_other_systems_are_read(how: str) -> None:
    content = recorded.one_person(2)
    np.testing.assert_array_equal(ntu.read(NAME, encoded(content, how)).frames, ntu.read(NAME, content).frames)
    line = (",".join(["0.5"] * 91) + "\n").encode() * 2
    assert len(sbu.read(recorded.SBU_NAME, encoded(line, how)).frames) == 2


@pytest.mark.parametrize("how", ["UTF-16", "UTF-16 without BOM", "UTF-32"])
@pytest.mark.fault("a recording's text in UTF-16", "rejected, with the encoding and the remedy")
def test_wide_texts_are_rejected_by_their_encoding(how: str) -> None:
    line = (",".join(["0.5"] * 91) + "\n").encode() * 2
    for read, name, content in (
        (ntu.read, NAME, recorded.one_person(2)),
        (sbu.read, recorded.SBU_NAME, line),
    ):
        with pytest.raises(Rejection, match=f"text in {how[:6]}.*save it as plain text"):
            read(name, encoded(content, how))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("x/S001C002P003R001A004.SKELETON", "S001C002P003R001A004"),
        ("s001c002p003r001a004.skeleton", "S001C002P003R001A004"),
        ("S001C002P003R001A004_rgb.Skeleton", "S001C002P003R001A004_rgb"),
        ("S001C002P003R001-2.skeleton", "S001C002P003R001-2"),
    ],
)
@pytest.mark.fault("a recording's name in upper or lower case", "taken under NTU's name")
def test_an_ntu_name_in_any_case_is_read(file: str, name: str) -> None:
    recording = ntu.read(file, recorded.one_person(2))
    assert (recording.name, recording.subject) == (name, 3)
    assert recording.label == ("A004" if "-2" not in file else None)


def test_the_missing_list_knows_a_name_in_any_form() -> None:
    listed = next(iter(ntu._missing()))
    assert all(map(ntu.on_missing_list, (listed, listed.lower(), f"x/{listed}_rgb.avi")))
    assert not ntu.on_missing_list("S001C001P001R001A001_rgb")


def test_a_body_id_with_control_characters_is_said_escaped() -> None:
    content = recorded.skeleton([{"1": np.ones((25, 3), np.float32), "2": np.ones((25, 3), np.float32)}])
    warnings = ntu.read(NAME, content.replace(b"\n1 ", b"\n\x1b[3m ").replace(b"\n2 ", b"\n\x1b[3m ")).warnings
    assert warnings == ("body: %1B[3m twice in a frame, the first is kept",)
