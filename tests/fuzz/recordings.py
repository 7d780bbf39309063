"""Recordings of every format: valid, damaged byte by byte, and built from wrong values."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

from glt.data.layouts import KINECT20
from tests.data import recorded
from tests.fuzz import texts
from tests.fuzz.mutations import mutated

# A good name, and a protocol of the format.
NAMES = {
    "ntu": ("S001C001P001R001A001.skeleton", "xsub"),
    "nw-ucla": ("a01_s01_e01_v01.json", "cross-view"),
    "sbu": (recorded.SBU_NAME, "5-fold"),
    "pyskl": ("set.pkl", "xsub"),
    "npz": ("take.npz", "random-subjects"),
    "parquet": ("take.parquet", "random-subjects"),
}
SKELETON = b"layout: kinect20\n"
OWN_SKELETON = yaml.safe_dump(
    {
        "name": "arm",
        "joints": ["shoulder", "elbow", "hand"],
        "bones": [["shoulder", "elbow"], ["elbow", "hand"]],
        "centre": "shoulder",
        "shoulders": ["shoulder", "elbow"],
        "pairs": [],
        "up": "y",
        "unit": "m",
        "rate": 30,
    }
).encode()
LABELS = b"name,label,split,subject,camera\ntake,wave,train,1,2\nother,nod,test,2,1\n"


def format_of(kind: str) -> str:
    """The format that reads this kind of file."""
    return "table" if kind in ("npz", "parquet") else kind


@functools.cache
def good(kind: str, number: int = 1) -> bytes:
    """A valid file."""
    points = recorded.walk(number, joints=25 if kind == "pyskl" else 20)
    if kind == "ntu":
        return recorded.one_person(number)
    if kind == "nw-ucla":
        return recorded.nw_ucla(points)
    if kind == "sbu":
        return recorded.sbu(number)
    if kind == "pyskl":
        return pickle.dumps([annotation(frame_dir=f"S001C001P{number:03}R001A001")])
    return npz({"frames": points}) if kind == "npz" else parquet(tidy())


def annotation(**fields: Any) -> dict[str, Any]:
    """An annotation of PYSKL."""
    points = recorded.walk(3)[None]
    return {"frame_dir": "S001C001P001R001A001", "label": 0, "keypoint": points, "total_frames": 5} | fields


def npz(arrays: dict[str, Any]) -> bytes:
    """An NPZ of these arrays."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def tidy(length: int = 2) -> dict[str, Any]:
    """The columns of a Parquet recording."""
    rows = [(t, 0, joint, 0.1 * t + k, 1.0, 2.0) for t in range(length) for k, joint in enumerate(KINECT20.joints)]
    return dict(zip(("frame", "person", "joint", "x", "y", "z"), map(list, zip(*rows, strict=True)), strict=True))


def parquet(columns: dict[str, Any]) -> bytes:
    """A Parquet file of these columns."""
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


_shapes = st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 20, 25, 100]), max_size=5).filter(
    lambda s: np.prod(s or [1]) < 1e5
)
_dtypes = st.sampled_from(["f4", "f8", "f2", ">f4", "i4", "i8", "u1", "b1", "c8", "U3", "S3", "M8[s]", "f4,f4", "V8"])


def _array(shape: list[int], dtype: str, fill: int) -> Any:
    values = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape) / 7
    if fill == 1:
        values = np.zeros(shape)
    elif fill > 1 and values.size:
        values.flat[fill % values.size] = (np.nan, np.inf, 1e308)[fill % 3]
    try:
        with np.errstate(all="ignore"):
            return values.astype(dtype)
    except (TypeError, ValueError):
        return np.zeros(shape, dtype)


arrays = st.builds(_array, _shapes, _dtypes, st.integers(0, 50))
_points = st.builds(
    _array, st.sampled_from([[1, 5, 25, 3], [2, 4, 25, 3], [1, 3, 17, 2]]), st.just("f4"), st.integers(0, 50)
)


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = (value, value)
    return value


_pickled = st.one_of(
    texts.values,
    arrays,
    st.sampled_from([np.int64(3), np.float32(2), np.bool_(True), np.str_("x"), b"x", (1, 2), {1}, 1j, np.int64(-1)]),
    st.integers(0, 40).map(_nested),
    st.sampled_from([(1080, 1920), [1, 1], (10**400, 1), (np.int64(3), np.int64(4)), (2**70, 2**70), (True, True)]),
)
_annotations = st.builds(
    lambda fields, points, drop: {k: v for k, v in (annotation(keypoint=points) | fields).items() if k not in drop},
    st.dictionaries(
        st.sampled_from(
            ["frame_dir", "label", "keypoint", "total_frames", "img_shape", "original_shape", "keypoint_score", "split"]
        ),
        _pickled,
        max_size=3,
    ),
    _points,
    st.sets(st.sampled_from(["frame_dir", "label", "total_frames"]), max_size=1),
)


def _dump(value: Any, protocol: int) -> bytes:
    try:
        return pickle.dumps(value, protocol)
    except (UnicodeEncodeError, RecursionError):  # protocol 0 and lone surrogates
        return pickle.dumps(value, 4) if protocol < 4 else b""


def _pyskl() -> st.SearchStrategy[bytes]:
    one = st.one_of(_annotations, _pickled)
    splits = st.one_of(
        st.dictionaries(
            texts.texts, st.lists(st.one_of(texts.texts, st.just("S001C001P001R001A001")), max_size=3), max_size=3
        ),
        _pickled,
    )
    whole = st.one_of(
        st.lists(one, max_size=3),
        st.builds(lambda s, a: {"split": s, "annotations": a}, splits, st.lists(one, max_size=3)),
        _pickled,
    )
    dumped = st.builds(_dump, whole, st.integers(0, 5))
    opcodes = st.lists(st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from(_OPCODES)), max_size=12).map(
        b"".join
    )
    return st.one_of(mutated([good("pyskl")]), dumped, opcodes.map(lambda code: b"\x80\x04" + code + b"."))


_OPCODES = (
    *(
        b"(",
        b"]",
        b"}",
        b")",
        b"N",
        b"K\x01",
        b"a",
        b"e",
        b"s",
        b"u",
        b"t",
        b"\x85",
        b"\x86",
        b"0",
        b"2",
        b"q\x00",
        b"h\x00",
    ),
    *(b"\x94", b"\x8f", b"\x90", b"\x91", b"\x8c\x01x", b"\x8a\x04\x00\x00\x00\x7f", b"r\xff\xff\xff\xff", b"R", b"b"),
    *(
        b"cos\nsystem\n",
        b"cnumpy\nndarray\n",
        b"cnumpy\ndtype\n",
        b"X\xff\xff\xff\x7f",
        b"\x95" + b"\xff" * 8,
        b"P1\n",
        b"Q",
    ),
    *(b"]\x94h\x00a", b"(h\x00h\x00t", b"\x8a\xff" + b"\x7f" * 255, b"F1e999\n", b"I" + b"9" * 5000 + b"\n", b"L5\n"),
    *(b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n", b"ccollections\nOrderedDict\n"),
)


def _npz() -> st.SearchStrategy[bytes]:
    names = st.one_of(st.sampled_from(["frames", "present", "confidence"]), st.text("abc/.", min_size=1, max_size=5))
    frames = st.builds(
        _array, st.sampled_from([[5, 20, 3], [4, 2, 20, 3], [3, 3, 3]]), st.just("f4"), st.integers(0, 50)
    )
    built = st.builds(lambda f, more: npz({"frames": f} | more), frames, st.dictionaries(names, arrays, max_size=2))
    claims = st.builds(_claim, st.lists(st.sampled_from([1, 20, 3, 10**5, 10**9, 2**62, -1]), max_size=4), _dtypes)
    return st.one_of(mutated([good("npz")]), built, claims, arrays.map(lambda a: npz({"frames": a})))


def _claim(shape: list[int], dtype: str) -> bytes:
    import zipfile

    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {tuple(shape)}, }}".encode()
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frames.npy", header + bytes(5000))
    return stream.getvalue()


def _table(columns: dict[str, Any], changes: list[tuple[str, int, Any]]) -> bytes:
    changed = {name: list(column) for name, column in columns.items()}
    for name, row, value in changes:
        if value == "drop":
            changed.pop(name, None)
        elif name in changed and isinstance(row, int) and row >= 0:
            changed[name][row % len(changed[name])] = value
        else:
            changed[name] = [value] * len(next(iter(changed.values()), [0]))
    try:
        return parquet(changed)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        try:
            return parquet({name: [f"{value}" for value in column] for name, column in changed.items()})
        except (pa.ArrowException, UnicodeEncodeError):
            return b""


def _parquet() -> st.SearchStrategy[bytes]:
    cells = st.one_of(
        st.sampled_from(
            [99_999, 100_000, 99, 100, -1, 2**40, 2**63 - 1, 1.5, None, "drop", "head", [1], {"a": 1}, b"x"]
        ),
        texts.scalars,
    )
    change = st.tuples(
        st.sampled_from(["frame", "person", "joint", "x", "confidence", "other"]), st.integers(-1, 99), cells
    )
    return st.one_of(mutated([good("parquet")]), st.builds(_table, st.just(tidy()), st.lists(change, max_size=3)))


def _json() -> st.SearchStrategy[bytes]:
    def text(fields: Any) -> bytes:
        return json.dumps(fields).encode("utf-8", "surrogatepass")

    whole = json.loads(good("nw-ucla"))
    built = st.dictionaries(st.sampled_from(["skeletons", "label", "file_name"]), texts.values, max_size=3)
    return st.one_of(mutated([good("nw-ucla")]), built.map(lambda fields: text(whole | fields)), texts.values.map(text))


def contents(kind: str) -> st.SearchStrategy[bytes]:
    """Contents of a file of this kind: mostly damaged."""
    own = {"pyskl": _pyskl, "npz": _npz, "parquet": _parquet, "nw-ucla": _json}
    return own[kind]() if kind in own else mutated([good(kind), good(kind, 2)])


def _labels(columns: list[str], rows: list[list[str]]) -> bytes:
    lines = [",".join(columns), *(",".join(row) for row in rows)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


labels = st.one_of(
    st.just(LABELS),
    mutated([LABELS]),
    st.builds(
        _labels,
        st.lists(st.sampled_from(["name", "label", "split", "subject", "camera", "other", ""]), max_size=5),
        st.lists(st.lists(st.one_of(texts.texts, st.sampled_from(["take", "take.npz", "1"])), max_size=5), max_size=4),
    ),
    texts.texts.map(lambda text: f'name,label\ntake,"{text}"\n'.encode("utf-8", "surrogatepass")),
)


def _layout(changes: dict[str, Any]) -> bytes:
    return yaml.dump(yaml.safe_load(OWN_SKELETON) | changes).encode("utf-8", "surrogatepass")


skeletons = st.one_of(
    st.just(SKELETON),
    mutated([SKELETON, OWN_SKELETON]),
    st.dictionaries(
        st.sampled_from(["name", "joints", "bones", "centre", "shoulders", "pairs", "up", "unit", "rate", "other"]),
        st.one_of(texts.values, st.sampled_from([["shoulder", "elbow"], [["elbow", "elbow"]], [["shoulder", "hand"]]])),
        max_size=3,
    ).map(_layout),
)
