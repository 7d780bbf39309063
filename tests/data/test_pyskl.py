from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import tracemalloc
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt.data.formats import FORMATS
from glt.data.formats.arrays import plain_pickle
from glt.data.layouts import COCO17, KINECT20, NTU25
from glt.data.recording import Recording, Rejection

NAME = "S001C002P003R001A004"


def annotation(
    length: int = 5, persons: int = 2, joints: int = 25, coordinates: int = 3, **more: Any
) -> dict[str, Any]:
    random = np.random.default_rng(length)
    return {
        **{"frame_dir": NAME, "label": 3, "total_frames": length},
        "keypoint": random.normal(1, 0.3, (persons, length, joints, coordinates)).astype(np.float16),
        **more,
    }


def written(*annotations: Any, split: Any = None, protocol: int = 4) -> bytes:
    data = list(annotations) if split is None else {"split": split, "annotations": list(annotations)}
    return pickle.dumps(data, protocol)


def read(content: bytes) -> list[Recording | Rejection]:
    return list(FORMATS["pyskl"].read("x/ntu60_3d.pkl", content, {}))


def one(content: bytes) -> Recording:
    (recording,) = read(content)
    assert isinstance(recording, Recording), recording
    return recording


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_pickled_is_read_again(protocol: int, dtype: str, order: Any) -> None:
    given = annotation()
    given["keypoint"] = np.array(given["keypoint"] * 100, dtype=dtype, order=order)
    given["label"] = np.int64(3)
    recording = one(written(OrderedDict(given), split={"xsub_train": [NAME], "xview_val": [NAME]}, protocol=protocol))
    np.testing.assert_array_equal(recording.frames, np.moveaxis(given["keypoint"], 0, 1).astype(np.float32))
    assert recording.present.all()
    assert recording.skeleton is NTU25
    assert (recording.name, recording.label, recording.splits) == (NAME, "A004", ("xsub_train", "xview_val"))
    assert (recording.setup, recording.camera, recording.subject, recording.replication) == (1, 2, 3, 1)


def test_a_body_of_zeros_is_absent() -> None:
    given = annotation(joints=20)
    given["keypoint"][1, 2:] = 0
    recording = one(written(given))
    assert recording.skeleton is KINECT20
    assert recording.present.tolist() == [[True, True], [True, True], *[[True, False]] * 3]


def test_pixels_become_an_upright_plane() -> None:
    points = np.zeros((1, 1, 17, 2), np.float32)
    points[0, 0, 0], points[0, 0, 16] = (960, 0), (0, 1080)
    scores = np.full((1, 1, 17), 0.5, np.float32)
    recording = one(written(annotation(1, keypoint=points, keypoint_score=scores, img_shape=(1080, 1920))))
    assert recording.skeleton is COCO17
    np.testing.assert_allclose(recording.frames[0, 0, [0, 16]], [[0, 0.5, 0], [-960 / 1080, -0.5, 0]], atol=1e-6)
    assert recording.confidence is not None
    assert (recording.confidence == 0.5).all()


def test_a_name_that_is_not_ntus_keeps_its_label() -> None:
    recording = one(written(annotation(frame_dir="v_Biking_g01", label=7)))
    assert (recording.name, recording.label, recording.subject) == ("v_Biking_g01", "7", None)
    assert one(written(annotation(frame_dir="x", label=None))).label is None


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"label": 9}, "label"),
        ({"label": -1, "frame_dir": "x"}, "label"),
        ({"total_frames": 4}, "format"),
        ({"frame_dir": None}, "format"),
        ({"keypoint": [[1.0]]}, "format"),
        ({"keypoint": np.zeros((2, 5, 25))}, "format"),
        ({"keypoint": np.zeros((2, 5, 25, 3), "U3")}, "format"),
        ({"keypoint": np.zeros((2, 5, 17, 3))}, "joints"),
        ({"keypoint": np.ones((2, 5, 17, 2))}, "format"),
        ({"keypoint_score": np.zeros((1, 1))}, "format"),
    ],
)
def test_a_wrong_annotation_is_a_reject_and_the_rest_goes_on(change: dict[str, Any], check: str) -> None:
    first, second, third = read(written(annotation(), {**annotation(), **change}, annotation(3)))
    assert isinstance(first, Recording)
    assert isinstance(third, Recording)
    assert isinstance(second, Rejection)
    assert second.check == check
    assert second.name == (change.get("frame_dir", NAME) or "annotation-1")


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        *[(os.system, "true"), (eval, "1"), (getattr, "x", "upper"), (__import__, "os"), (subprocess.Popen, "true")],
        *[(np.load, "x"), (np.ndarray, (10**12,)), (bytearray, 10**12), (print, "x"), (np.array, [1])],
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_in_it_is_rejected(call: tuple[Any, ...], protocol: int) -> None:
    content = pickle.dumps({"annotations": [annotation(), {"frame_dir": Calls(*call)}]}, protocol)
    with pytest.raises(Rejection) as caught:
        read(content)
    assert caught.value.check in ("code", "format")


def test_no_code_runs_even_by_tricks_of_the_stack(tmp_path: Any) -> None:
    flag = tmp_path / "ran"
    tricks = [
        b"cos\nsystem\n(S'touch " + str(flag).encode() + b"'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",
        b"(S'touch x'\nios\nsystem\n.",
        b"\x80\x02cnumpy\ndtype\n}U\x08__call__cos\nsystem\nsb.",
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n}\x8c\x08__code__K\x01s\x86b.",
        b"Pos.system\n.",
        b"\x82\x01.",
    ]
    for trick in tricks:
        with pytest.raises(Rejection):
            plain_pickle(trick)
    assert not flag.exists()


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04r\xff\xff\xff\xff.",  # a memo of 2^32 places
        b"\x80\x04K\x01r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",  # bytes that do not come
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        pickle.dumps(nested(60)),
        pickle.dumps({"annotations": [annotation(label=nested(60))], "split": {}}),
        pickle.dumps({"annotations": [annotation(total_frames=nested(60))]}),
        pickle.dumps({"annotations": [{**annotation(), "frame_dir": nested(60)}]}),
        pickle.dumps(annotation()["keypoint"], 2).replace(
            b"(K\x02K\x05K\x19K\x03t", b"(J\xff\xff\xff\x7fK\x05K\x19K\x03t"
        ),
        gzip.compress(b"x" * 1000, mtime=0),
    ],
)
def test_bombs_cost_no_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        found = read(content)
    except Rejection:
        found = []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(isinstance(each, Rejection) for each in found)
    assert peak < 32 << 20


def test_one_array_under_many_names_fills_no_disk() -> None:
    points = annotation(400)["keypoint"]
    many = [annotation(frame_dir=f"take-{n}", total_frames=400, keypoint=points) for n in range(1000)]
    found = iter(FORMATS["pyskl"].read("x.pkl", written(*many), {}))
    assert isinstance(next(found), Recording)
    with pytest.raises(Rejection, match="share arrays"):
        next(found)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_rejected_or_harmless_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(written(annotation(2), annotation(3), split={"a_train": [NAME]}))
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content[:end]))
    except Rejection:
        return
    for recording in found:
        if isinstance(recording, Recording):
            assert recording.frames.ndim == 4
            assert recording.present.shape == recording.frames.shape[:2]


@given(st.binary(max_size=300))
def test_noise_is_rejected(content: bytes) -> None:
    with pytest.raises(Rejection):
        read(content)
