"""Small files that ask for much: bounded before anything is allocated, measured in a process of their own."""

from __future__ import annotations

import io
import multiprocessing
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glt.data import limits
from glt.data.formats import FORMATS
from glt.data.layouts import KINECT20
from glt.data.recording import Recording, Rejection

PEAK = 200 << 10  # kB


def member(shape: tuple[int, ...], content: bytes = b"", descr: str = "<f4") -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue() + content


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def tidy(rows: int = 20, **columns: Any) -> bytes:
    table = {
        "frame": np.zeros(rows, int),
        "person": np.zeros(rows, int),
        "joint": [KINECT20.joints[row % 20] for row in range(rows)],
        **{axis: np.zeros(rows) for axis in "xyz"},
        **columns,
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(table), stream, compression="zstd")
    return stream.getvalue()


def same(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "frames without persons": ("x.npz", lambda: archive(frames=member((30_000_000_000, 0, 20, 3)))),
    "frames without joints": ("x.npz", lambda: archive(frames=member((10, 10**10, 0, 3)))),
    "huge shape": ("x.npz", lambda: archive(frames=member((10**400, 0)))),
    "zeros": ("x.npz", lambda: archive(frames=member((500_000, 2, 20, 3), bytes(1 << 20)))),
    "zeros as doubles": ("x.npz", lambda: archive(frames=member((80_000, 2, 20, 3), bytes(80_000 * 960), "<f8"))),
    "presence": ("x.npz", lambda: archive(frames=member((1, 1, 20, 3), bytes(240)), present=member((10**9, 0)))),
    "texts": ("x.npz", lambda: archive(frames=member((1, 1, 20, 3), bytes(240), "<U4000000"))),
    "another array": ("x.npz", lambda: archive(frames=member((1, 20, 3), bytes(240)), x=bytes(10 << 20))),
    "a far frame and person": ("x.parquet", lambda: tidy(frame=np.full(20, 99_999), person=np.full(20, 99))),
    "a far frame": ("x.parquet", lambda: tidy(frame=np.full(20, 2**62))),
    "a negative person": ("x.parquet", lambda: tidy(person=np.full(20, -(2**62)))),
    "one long joint": ("x.parquet", lambda: tidy(400_000, joint=same("a" * 100_000, 400_000))),
    "many rows": ("x.parquet", lambda: tidy(1_000_000)),
    "joints in lists": ("x.parquet", lambda: tidy(joint=[["head"]] * 20)),
    "joints as numbers": ("x.parquet", lambda: tidy(joint=np.zeros(20))),
    "joints missing": ("x.parquet", lambda: tidy(joint=pa.array([None] * 20, pa.string()))),
    "coordinates in lists": ("x.parquet", lambda: tidy(x=[[1.0] * 1000] * 20)),
    "coordinates as decimals": ("x.parquet", lambda: tidy(x=pa.array([1] * 20, pa.decimal128(20)))),
    "frames as structs": ("x.parquet", lambda: tidy(frame=[{"a": 1}] * 20)),
    "a column of texts beside": ("x.parquet", lambda: tidy(400_000, note=same("a" * 100_000, 400_000))),
}


def outcome(name: str, content: bytes) -> str:
    try:
        found = list(FORMATS["table"].read(name, content, {"skeleton.yaml": b"layout: kinect20"}))
    except Rejection as rejection:
        return f"{rejection.check}: {rejection.reason}"
    assert all(isinstance(one, Recording) for one in found)
    return "read"


def kilobytes(what: str) -> int:
    """A size of this process, as the kernel has it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def measured(name: str, content: bytes) -> tuple[str, int]:
    """The outcome, and the kB that it took; a forked process begins with the memory of its parent."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present size again
    before = kilobytes("VmRSS")
    return outcome(name, content), kilobytes("VmHWM") - before


@pytest.fixture(scope="module")
def processes() -> Any:
    with multiprocessing.get_context("forkserver").Pool(1, maxtasksperchild=1) as pool:
        yield pool


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.fault("a small file that asks for gigabytes, or has columns of other types", "rejected under 500 MB")
def test_a_small_hostile_file_costs_little_memory(what: str, processes: Any) -> None:
    name, make = HOSTILE[what]
    content = make()
    assert len(content) < 2 << 20
    text, peak = processes.apply(measured, (name, content))
    assert text != "read" or what == "zeros as doubles"
    assert not text.startswith("reader")
    assert peak < PEAK


def test_columns_that_the_format_does_not_know_are_not_read() -> None:
    assert outcome("x.parquet", tidy(note=[["x"]] * 20)) == "read"


def test_texts_in_any_encoding_of_parquet_are_read() -> None:
    names = [KINECT20.joints[row] for row in range(20)]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        assert outcome("x.parquet", tidy(joint=pa.array(names, kind))) == "read"
    stream = io.BytesIO()
    pd.read_parquet(io.BytesIO(tidy())).to_parquet(stream, row_group_size=7)
    assert outcome("x.parquet", stream.getvalue()) == "read"


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((limits.FRAMES + 1, 0, 25), "frames"),
        ((1, limits.PERSONS + 1), "persons"),
        ((1, 1, limits.JOINTS + 1), "joints"),
        ((limits.FRAMES, 10, 25, 3), "points"),
        ((10**5000, 1), "over 10^18 frames"),
    ],
)
def test_a_shape_beyond_a_bound_is_named(shape: tuple[int, ...], reason: str) -> None:
    assert reason in limits.too_large(shape)
    assert not limits.too_large((100_000, 2, 25, 3))
