from __future__ import annotations

import gzip
import io
import zipfile
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt.data.formats import FORMATS
from glt.data.layouts import SBU15
from glt.data.recording import Recording, Rejection

SKELETON = b"layout: sbu15\n"
FRAMES = np.random.default_rng(0).normal(1, 0.3, (4, 2, 15, 3)).astype(np.float32)


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def tidy(frames: np.ndarray, present: np.ndarray) -> pd.DataFrame:
    rows = [
        {"frame": t, "person": p, "joint": joint, **dict(zip("xyz", frames[t, p, k], strict=True))}
        for t, p in np.argwhere(present)
        for k, joint in enumerate(SBU15.joints)
    ]
    return pd.DataFrame(rows, columns=["frame", "person", "joint", "x", "y", "z"])


def parquet(table: pd.DataFrame) -> bytes:
    return table.to_parquet(index=False)


def read(name: str, content: bytes, **sidecars: bytes) -> Recording:
    beside = {"skeleton.yaml": SKELETON, **{f"{file}.csv": given for file, given in sidecars.items()}}
    (recording,) = FORMATS["table"].read(name, content, beside)
    assert isinstance(recording, Recording)
    return recording


@given(st.integers(1, 6), st.integers(1, 3), st.randoms(use_true_random=False))
def test_what_is_written_is_read_again_from_either_file(length: int, persons: int, random: Any) -> None:
    draws = np.random.default_rng(random.randrange(2**32))
    frames = draws.normal(0, 1, (length, persons, 15, 3)).astype(np.float32)
    present = draws.random((length, persons)) < 0.7
    present[-1, -1] = True
    frames[~present] = 0
    table = tidy(frames, present).sample(frac=1, random_state=random.randrange(2**32))
    for name, content in {"a/x.npz": npz(frames=frames, present=present), "x.parquet": parquet(table)}.items():
        recording = read(name, content)
        np.testing.assert_array_equal(recording.frames, frames)
        np.testing.assert_array_equal(recording.present, present)
        assert (recording.name, recording.skeleton) == ("x", SBU15)


def test_one_person_may_leave_the_axis_out() -> None:
    confidence = np.full((4, 15), 0.5)
    recording = read("x.npz", npz(frames=FRAMES[:, 0].astype(float), present=np.ones(4, bool), confidence=confidence))
    np.testing.assert_array_equal(recording.frames, FRAMES[:, :1])
    assert recording.present.shape == (4, 1)
    assert recording.confidence is not None
    assert recording.confidence.shape == (4, 1, 15)


def test_a_confidence_that_is_no_number_is_none() -> None:
    confidence = np.full((4, 2, 15), 0.5)
    confidence[1] = np.nan
    recording = read("x.npz", npz(frames=FRAMES, confidence=confidence))
    assert recording.confidence is not None
    assert recording.confidence[:2, 0, 0].tolist() == [0.5, 0.0]


def test_labels_come_from_the_row_of_its_name() -> None:
    labels = "\ufeffname,label,subject,camera,split\nx,wave hand,3,,xsub_train\n\ny,,,2,\n".encode()
    first, second, third = (read(f"{name}.npz", npz(frames=FRAMES), labels=labels) for name in "xyz")
    assert (first.label, first.subject, first.camera, first.splits) == ("wave hand", 3, None, ("xsub_train",))
    assert (second.label, second.subject, second.camera, second.splits) == (None, None, 2, ())
    assert (third.label, third.subject, third.camera, third.splits) == (None, None, None, ())


@pytest.mark.fault(
    "an index that pandas wrote to labels.csv, or empty columns of a spreadsheet", "columns without a name are not read"
)
@pytest.mark.parametrize(
    "labels",
    [b",name,label\n0,x,wave\n", b"name,label,,\nx,wave,,\n", b"name,label\nx,wave,\n", b"name,label,\nx,wave\n"],
)
def test_columns_without_a_name_are_not_read(labels: bytes) -> None:
    assert read("x.npz", npz(frames=FRAMES), labels=labels).label == "wave"


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (b"label\nx\n", "no column `name`"),
        (b",name,label\nx,wave\n", "line 2: 2 cells, the header has 3"),
        (b"name,label\nx,wave,hand\n", "line 2: 3 cells, the header has 2"),
        (b"name,name\nx,y\n", "no column `name`, or a column is given twice"),
        (b"name,action\nx,1\n", "column 'action': expected some of name, label"),
        (b"name,label\nx\n", "line 2: 1 cells, the header has 2"),
        (b"name,subject\nx,three\n", "line 2: subject 'three' is not a whole number"),
        (b"name,subject\nx,-1\n", "line 2: subject '-1' is not a whole number"),
        (b"name,label\nx,a\nx,b\n", "line 3: 'x' is given twice"),
        (b"name,label\n,a\n", "line 2: no name"),
        (b"name,label\nx,\xff\n", "not a CSV in UTF-8"),
        (b'name,label\nx,"a', "not a CSV in UTF-8"),
        (b"", "no column `name`"),
    ],
)
def test_wrong_labels_are_reported(labels: bytes, why: str) -> None:
    with pytest.raises(Rejection) as caught:
        read("x.npz", npz(frames=FRAMES), labels=labels)
    assert f"labels.csv: {why}" in caught.value.reason


@pytest.mark.parametrize(
    ("arrays", "check"),
    [
        ({"frames": FRAMES[0, 0]}, "joints"),
        ({"frames": FRAMES[..., :1]}, "joints"),
        ({"frames": FRAMES[:, :, :14]}, "joints"),
        ({"frames": FRAMES.astype(str)}, "format"),
        ({"frames": np.array([{}], object)}, "format"),
        ({"present": np.ones((4, 2), bool)}, "format"),
        ({"frames": FRAMES, "present": np.ones((4, 1), bool)}, "format"),
        ({"frames": FRAMES, "present": np.ones((4, 2))}, "format"),
        ({"frames": FRAMES, "confidence": np.ones((4, 2))}, "format"),
        ({"frames": FRAMES, "labels": np.ones(4)}, "format"),
    ],
)
def test_wrong_arrays_are_reported(arrays: dict[str, Any], check: str) -> None:
    with pytest.raises(Rejection) as caught:
        read("x.npz", npz(**arrays))
    assert caught.value.check == check


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("joint", "tail", "joint 'tail' is not in layout sbu15"),
        ("joint", "neck", "is given twice"),
        ("frame", 7, "has no 'head'"),
        ("frame", 2_000_000, "expected whole numbers"),
        ("person", -1, "expected whole numbers"),
        ("person", 900, "expected whole numbers from 0 to 99"),
    ],
)
def test_wrong_rows_are_reported(column: str, value: Any, why: str) -> None:
    table = tidy(FRAMES, np.ones((4, 2), bool))
    table.loc[0, column] = value
    with pytest.raises(Rejection, match=why):
        read("x.parquet", parquet(table))


def test_positions_of_two_coordinates_lie_in_a_plane() -> None:
    table = tidy(FRAMES, np.ones((4, 2), bool)).drop(columns="z")
    flat = FRAMES * [1, 1, 0]
    for one in (read("x.npz", npz(frames=FRAMES[..., :2])), read("x.parquet", parquet(table))):
        np.testing.assert_array_equal(one.frames, flat)
    np.testing.assert_array_equal(read("x.npz", npz(frames=FRAMES[:, 0, :, :2])).frames, flat[:, :1])


def test_columns_that_are_missing_or_not_numbers_are_reported() -> None:
    table = tidy(FRAMES, np.ones((4, 2), bool))
    with pytest.raises(Rejection, match="no column y"):
        read("x.parquet", parquet(table.drop(columns="y")))
    with pytest.raises(Rejection, match=r"column x is of type .*; expected numbers"):
        read("x.parquet", parquet(table.assign(x="1")))


@pytest.mark.parametrize("skeleton", [None, b"layout: nonsense", b"\xff", b"name: x", b"{" * 2000])
def test_a_wrong_skeleton_is_reported(skeleton: bytes | None) -> None:
    with pytest.raises(Rejection) as caught:
        list(FORMATS["table"].read("x.npz", npz(frames=FRAMES), {"skeleton.yaml": skeleton} if skeleton else {}))
    assert caught.value.check == "layout"


def test_an_npz_that_unpacks_to_very_much_is_rejected() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("frames.npy", "w", force_zip64=True) as member:
            for _ in range(1100):
                member.write(bytes(1 << 20))
    with pytest.raises(Rejection) as caught:
        read("x.npz", stream.getvalue())
    assert caught.value.check == "too-large"


def test_an_npz_that_claims_a_huge_shape_costs_no_memory() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 2, 15, 3)})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("frames.npy", header.getvalue())
    with pytest.raises(Rejection):
        read("x.npz", stream.getvalue())


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["npz", "parquet"]))
def test_damage_is_rejected_or_harmless_and_nothing_else(data: st.DataObject, kind: str) -> None:
    whole = npz(frames=FRAMES) if kind == "npz" else parquet(tidy(FRAMES, np.ones((4, 2), bool)))
    content = bytearray(whole)
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        recording = read(f"x.{kind}", bytes(content[:end]))
    except Rejection:
        return
    assert recording.frames.shape == (*recording.present.shape, 15, 3)


@given(
    content=st.binary(max_size=300) | st.binary(max_size=100).map(gzip.compress),
    kind=st.sampled_from(["npz", "parquet"]),
)
def test_noise_is_rejected(content: bytes, kind: str) -> None:
    with pytest.raises(Rejection):
        read(f"x.{kind}", content)
