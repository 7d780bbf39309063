"""The ways in which annotation pickles of the field differ, and what a hostile one tries."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from glt.data.formats.arrays import plain_pickle
from glt.data.recording import Recording, Rejection
from tests.data.test_pyskl import NAME, annotation, one, read, written


def planar(**more: Any) -> dict[str, Any]:
    points = np.full((1, 3, 17, 2), 100, np.float32)
    return {"frame_dir": "v1", "label": 0, "keypoint": points, "img_shape": (1080, 1920), **more}


@pytest.mark.parametrize(
    "shape",
    [
        (1080, 1920),
        [1080, 1920],
        (np.int64(1080), np.int32(1920)),
        np.array([1080, 1920]),
        np.array([1080.0, 1920.0]),
        (1080.0, np.float32(1920)),
        (1080, 1920, 3),
        (np.array(1080), np.array([1920])),
    ],
    ids=repr,
)
@pytest.mark.fault("an image size as numpy numbers, floats or an array", "taken")
def test_an_image_size_in_any_form_is_taken(shape: Any) -> None:
    expected = one(written(planar())).frames
    np.testing.assert_array_equal(one(written(planar(img_shape=shape))).frames, expected)
    np.testing.assert_array_equal(one(written(planar(img_shape=None, original_shape=shape))).frames, expected)


@pytest.mark.parametrize(
    "shape", [(), (1080,), "1080x1920", (0, 1920), (-1, 3), (10.5, 3), (10**400, 10**400), (np.nan, 3), (True, True)]
)
def test_an_image_size_that_is_none_is_rejected_by_its_field(shape: Any) -> None:
    (rejection,) = read(written(planar(img_shape=shape)))
    assert isinstance(rejection, Rejection)
    assert "`img_shape`" in rejection.reason


def test_a_swapped_image_size_is_said() -> None:
    points = np.random.default_rng(0).uniform((1200, 0), (1900, 1000), (1, 3, 17, 2)).astype(np.float32)
    assert one(written(planar(keypoint=points))).warnings == ()
    (warning,) = one(written(planar(keypoint=points, img_shape=(1920, 1080)))).warnings
    assert "are height and width swapped?" in warning


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME}_rgb",
        f"{NAME}_rgb.avi",
        f"nturgb+d/rgb/{NAME}.avi",
        NAME.lower(),
        f"C:\\x\\{NAME}.skeleton",
        f"S009C009P009R009A009/{NAME}",
        NAME.encode(),
    ],
)
@pytest.mark.fault(
    "an NTU name with a path, an ending or a suffix around it", "its subject, camera and class are found"
)
def test_an_ntu_name_is_found_inside_of_frame_dir(name: Any) -> None:
    recording = one(written(annotation(frame_dir=name)))
    assert (recording.label, recording.setup, recording.camera, recording.subject) == ("A004", 1, 2, 3)


@pytest.mark.parametrize("name", ["v_Biking_g01", f"X{NAME}", f"{NAME}7", "S001C002P003"])
def test_other_names_have_no_numbers(name: str) -> None:
    assert one(written(annotation(frame_dir=name))).subject is None


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        *[(np.int16(3), "3"), (np.float32(3), "3"), (3.0, "3"), (np.array(3), "3"), ([3], "3"), (np.array([3]), "3")],
        *[("walk", "walk"), (np.str_("walk"), "walk"), (b"walk", "walk"), (None, None), (float("nan"), None)],
        *[("caf\u0065\u0301", "caf\u00e9"), ("a\ud800b", "a%ED%A0%80b"), ("a\x1b[31m", "a%1B[31m"), (b"\xff", "%FF")],
    ],
    ids=repr,
)
@pytest.mark.fault("a label as any kind of number or text, even if not UTF-8", "taken, as clean text")
def test_a_label_in_any_form_is_taken_as_clean_text(label: Any, expected: str | None) -> None:
    assert one(written(annotation(frame_dir="x", label=label))).label == expected


@pytest.mark.parametrize(
    "label",
    [10**5000, -1, 1.5, True, [1, 2], {"a": 1}, "", " ", "x" * 501, float("inf"), np.bool_(True), 2**64],
    ids=range(12),
)
@pytest.mark.fault("a label of the wrong kind: a huge number, several values, a dict", "its recording is rejected")
def test_a_label_that_is_none_is_a_rejection(label: Any) -> None:
    first, second = read(written(annotation(frame_dir="x", label=label), annotation()))
    assert isinstance(first, Rejection)
    assert first.check == "label"
    assert isinstance(second, Recording)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda first, second: [first, second],
        lambda first, second: (first, second),
        lambda first, second: np.array([first, second], object),
        lambda first, second: {"annotations": (first, second)},
        lambda first, second: {"annotations": {"a": first, "b": second}, "split": None},
        lambda first, second: {"train": [first], "val": [second]},
    ],
)
@pytest.mark.fault("annotations in a tuple, an array, a dict by split, or a single one", "taken")
def test_annotations_in_any_container_are_taken(wrap: Any) -> None:
    names = [one.name for one in read(pickle.dumps(wrap(annotation(), annotation(frame_dir="b"))))]
    assert names == [NAME, "b"]


def test_a_dict_by_split_gives_the_splits_and_one_annotation_may_stand_alone() -> None:
    content = pickle.dumps({"train": [annotation()], "val": [annotation(frame_dir="b")]})
    assert [one.splits for one in read(content) if isinstance(one, Recording)] == [("train",), ("val",)]
    assert one(pickle.dumps(annotation())).name == NAME


@pytest.mark.parametrize(
    "names", [[NAME], (NAME,), {NAME}, np.array([NAME]), np.array([NAME], object), [NAME.encode()]]
)
def test_splits_in_any_container_are_taken(names: Any) -> None:
    assert one(written(annotation(), split={"xsub_train": names})).splits == ("xsub_train",)


@pytest.mark.fault("names in a split in another Unicode form than the recordings' names", "they match")
def test_splits_match_in_nfc() -> None:
    recording = one(written(annotation(frame_dir="caf\u00e9", label=1), split={"train": ["cafe\u0301"]}))
    assert (recording.name, recording.splits) == ("caf\u00e9", ("train",))


def test_keypoints_of_one_person_may_leave_the_axis_out() -> None:
    whole = planar()
    scores = np.full((1, 3, 17), 0.5, np.float32)
    expected = one(written({**whole, "keypoint_score": scores}))
    for points, score in ((whole["keypoint"][0], scores[0]), (whole["keypoint"], scores[..., None])):
        found = one(written({**whole, "keypoint": points, "keypoint_score": score}))
        np.testing.assert_array_equal(found.frames, expected.frames)


@pytest.mark.parametrize("score", [np.array(0.5), np.ones((5, 25)), np.ones((2, 5, 25), "U1"), [1.0], "x", 0.5])
def test_scores_of_another_shape_are_rejected(score: Any) -> None:
    (rejection,) = read(written(annotation(keypoint_score=score)))
    assert isinstance(rejection, Rejection)
    assert "`keypoint_score`" in rejection.reason


@pytest.mark.parametrize("shape", [(0, 5, 25, 3), (2, 0, 25, 3), (0, 0, 25, 3)])
def test_nobody_and_nothing_are_harmless(shape: tuple[int, ...]) -> None:
    recording = one(written(annotation(keypoint=np.zeros(shape), total_frames=shape[1])))
    assert not recording.present.any()


def deep(levels: int, wrap: bytes) -> bytes:
    return b"\x80\x04}" + b")" + wrap * levels + b"Ns."


@pytest.mark.parametrize(
    "content",
    [
        deep(40, b"2\x86"),  # a pair of itself, forty times: 2^40 hashes
        deep(200_000, b"\x85"),  # hashing it would end the process
        b"\x80\x04\x8f(" + b")" + b"2\x86" * 40 + b"\x90.",
        b"\x80\x04(" + b")" + b"2\x86" * 40 + b"\x91.",
        b"(" + b"()" + b"2\x86" * 40 + b"Nd.",
        b"\x80\x04ccollections\nOrderedDict\n]](" + b")" + b"2\x86" * 40 + b"Neea\x85R.",
        pickle.dumps({2**61 - 1: 1}),
        b"c__builtin__\nset\n(]" + b"(" + b")" + b"2\x86" * 40 + b"etR.",
        b"\x80\x04" + b"\x8f" * 20_000 + b".",
        b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00.",
        pickle.dumps(np.zeros((0, 25), "f4"), 4).replace(
            b"K\x00K\x19\x86", b"\x8a\x06\x00\xac\x23\xfc\x06\x00K\x00\x86"
        ),
    ],
)
@pytest.mark.fault("a pickle that takes endless time or memory to load", "rejected at once")
def test_bombs_are_rejected_at_once(content: bytes) -> None:
    with pytest.raises(Rejection):
        plain_pickle(content)


PLAIN = {
    "none": b"",
    "bytes": b"\xff1",
    "array": bytearray(b"2"),
    "set": {"a", 1},
    "frozen": frozenset([2]),
    "z": 1 + 2j,
}


@pytest.mark.fault("sets, bytes or an empty array in a pickle of any protocol", "read")
@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_read(protocol: int) -> None:
    assert plain_pickle(pickle.dumps(PLAIN, protocol)) == PLAIN
    assert plain_pickle(pickle.dumps(np.zeros((0, 3), "f4"), protocol)).shape == (0, 3)


@pytest.mark.parametrize(
    "call", [b"set\n(NtR.", b"complex\n(V1e9\ntR.", b"bytes\n(I99999999999\ntR.", b"eval\n(V1\ntR."]
)
def test_other_calls_of_the_same_names_are_rejected(call: bytes) -> None:
    with pytest.raises(Rejection):
        plain_pickle(b"c__builtin__\n" + call)


@pytest.mark.parametrize("levels", [30, 300])
@pytest.mark.fault("a split of nested lists instead of names", "rejected")
def test_a_split_that_is_nested_is_rejected(levels: int) -> None:
    names: Any = "x"
    for _ in range(levels):
        names = [names, names]
    with pytest.raises(Rejection, match="not a name"):
        read(written(annotation(), split={"train": [names]}))


def test_many_empty_annotations_cost_no_memory() -> None:
    with pytest.raises(Rejection, match="more than the file can hold"):
        read(b"\x80\x04](" + b"}" * 100_000 + b"e.")


@pytest.mark.fault("names in a pickle's `split` that match no annotation", "counted in a warning")
@pytest.mark.parametrize(("names", "count"), [((), 0), (("other",), 1), (("other", "another"), 2)])
def test_names_in_split_that_match_nothing_are_counted(names: tuple[str, ...], count: int) -> None:
    recording = one(written(annotation(), split={"xsub_train": list(names)}))
    assert [f"{count} of {count} names" in warning for warning in recording.warnings] == [True] * bool(count)
