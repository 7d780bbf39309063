"""Bad recordings of every kind, read as an ingest reads them: outcome, time and memory of each.

    python -m benchmarks.bad_input

Each is read in a process of its own, which may take `SECONDS` and `MIB`. Prints a table in Markdown; ends with 1 if one
crashed, hung, used too much memory, ran code, or was accepted although it is bad.
"""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import pickle
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glt.data.chunk_reader import read_chunk
from glt.data.formats import ntu_text
from glt.data.formats.sbu import PAIRS
from glt.data.recording import Rejection
from glt.data.sources import Batch, Chunk
from glt.recipe import DataConfig

SECONDS, MIB = 20, 1024
ACCEPTED = "accepted"
_NAMES = {
    "ntu": ("S001C001P001R001A001.skeleton", "xsub"),
    "nw-ucla": ("a01_s01_e01_v01.json", "cross-view"),
    "sbu": (f"{PAIRS[0]}/01/001/skeleton_pos.txt", "5-fold"),
    "pyskl": ("set.pkl", "xsub"),
    "table": ("take.npz", "random-subjects"),
}
_FRAMES = 20


def main() -> None:
    """Read every input and print the outcomes."""
    print("| format | what is wrong | outcome | ms | MiB |\n| --- | --- | --- | --- | --- |")
    bad = []
    ntu_text.parse(b"0\n")  # loads the compiler, whose memory is not the recording's
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "skeleton.yaml").write_text("layout: kinect20\n")
        for format, wrong, content in inputs():
            name, protocol = _NAMES[format]
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            data = DataConfig(dataset="bad", format=format, protocol=protocol, persons=2)
            outcome, seconds, mib = _read_in_process(
                file, Batch(Path(folder), (name,), sidecar_names=("skeleton.yaml",)), data
            )
            file.unlink()
            if mib > MIB or outcome.startswith("!") or (outcome == ACCEPTED) != (wrong in _HARMLESS):
                bad.append(f"{format}, {wrong}: {outcome}, {mib:.0f} MiB")
            print(f"| {format} | {wrong} | {outcome.replace('|', '/')} | {1e3 * seconds:.0f} | {mib:.0f} |")
    if bad:
        sys.exit("unexpected outcomes:\n" + "\n".join(bad))


def _read_in_process(file: Path, batch: Batch, data: DataConfig) -> tuple[str, float, float]:
    """Return the outcome, the seconds, and the MiB of memory above what the process had."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(batch, data, there))
    child.start()
    there.close()
    try:
        if not here.poll(SECONDS):
            child.kill()
            return f"! hung for {SECONDS} s", SECONDS, 0.0
        result: tuple[str, float, float] = here.recv()
        return result
    except EOFError:
        child.join()
        return f"! crashed with {child.exitcode}", 0.0, 0.0
    finally:
        child.join()


def _child(batch: Batch, data: DataConfig, pipe: Connection) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        ((_, recordings),) = read_chunk(Chunk(batch), data)
        outcomes = [f"{each.check}: {each.reason}" if isinstance(each, Rejection) else ACCEPTED for each in recordings]
        outcome = (
            outcomes[0]
            if len(set(outcomes)) == 1
            else f"{outcomes.count(ACCEPTED)} of {len(outcomes)} accepted; {outcomes[-1]}"
        )
    except BaseException as error:
        outcome = f"! {error!r:.100}"
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    pipe.send((outcome, time.perf_counter() - started, used / 1024))


_HARMLESS = {"nothing", "a coordinate of 1e-400, which is 0", "a number with a plus and 30 digits", "Windows line ends"}


def inputs() -> Iterator[tuple[str, str, bytes]]:
    """(format, what is wrong, content), beginning with recordings that nothing is wrong with."""
    valid = {
        "ntu": _ntu(_walk(25)),
        "nw-ucla": _nw_ucla(_walk(20)),
        "sbu": _sbu(),
        "pyskl": _pyskl(_walk(25)[None]),
        "table": _npz(_walk(20)),
    }
    for format, content in valid.items():
        middle = len(content) // 2 - 3
        yield format, "nothing", content
        yield format, "empty", b""
        yield format, "cut off in the middle", content[:middle]
        yield format, "its second half before its first", content[middle:] + content[:middle]
        yield format, "gzip of garbage", gzip.compress(bytes(range(256)) * 40)
        yield (
            format,
            "two letters that are not ASCII in the middle",
            content[:middle] + "é☃".encode() + content[middle:],
        )
    yield from _ntu_texts(valid["ntu"])
    yield from _values(valid)
    yield from _bombs()


def _ntu_texts(valid: bytes) -> Iterator[tuple[str, str, bytes]]:
    yield "ntu", "Windows line ends", valid.replace(b"\n", b"\r\n")
    pairs = zip(valid.split(b"\n"), _ntu(_walk(25) + 1).split(b"\n"), strict=True)
    yield "ntu", "two files interleaved line by line", b"\n".join(line for pair in pairs for line in pair)
    counts = {"frames": (b"20\n", "21 19 -1 999999999 1e3"), "bodies": (b"\n1\n", "0 2 -1 99999")}
    counts["joints"] = b"\n25\n", "26 24 -25 2147483647"
    for what, (right, wrongs) in counts.items():
        for wrong in (*wrongs.split(), "9" * 40):
            changed = valid.replace(right, right.replace(right.strip(), wrong.encode()), 1)
            yield "ntu", f"{wrong:.10}{'...' * (len(wrong) > 10)} {what} (of {right.decode().strip()})", changed


def _values(valid: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Coordinates that are none."""
    number = repr(float(_walk(25)[3, 3, 0])).encode()
    for value in ("nan", "inf", "-inf", "1e308", "0x10", "1_0", "1,5"):
        yield "ntu", f"a coordinate of {value}", valid["ntu"].replace(number, value.encode(), 1)
    yield "ntu", "a coordinate of 1e-400, which is 0", valid["ntu"].replace(number, b"1e-400", 1)
    yield "ntu", "a number with a plus and 30 digits", valid["ntu"].replace(number, b"+0." + b"123" * 10, 1)
    number = repr(float(_walk(20)[3, 3, 0])).encode()
    for value in ("NaN", "Infinity", "1e308", "null", '"x"', "{}", "[1]"):
        yield "nw-ucla", f"a coordinate of {value}", valid["nw-ucla"].replace(number, value.encode(), 1)
    number = valid["sbu"].split(b",")[100]
    for value in ("nan", "-inf", "1e308", "", "0x10"):
        yield "sbu", f"a coordinate of {value or 'nothing'}", valid["sbu"].replace(number, value.encode(), 1)
    for spoiled in (np.nan, np.inf, 1e308):
        points = _walk(25)[None].astype(np.float64)
        points[0, 3, 3, 0] = spoiled
        yield "pyskl", f"a coordinate of {spoiled}", _pyskl(points)
        yield "table", f"a coordinate of {spoiled}", _npz(points[0, :, :20])
    yield "table", "coordinates that are texts", _npz(_walk(20).astype(str))
    yield "table", "19 joints of 20", _npz(_walk(20)[:, 1:])
    yield "pyskl", "26 joints of 25", _pyskl(_walk(26)[None])
    yield "sbu", "a line of 90 values", valid["sbu"].replace(b"1,", b"", 1)
    yield "nw-ucla", "lists of different lengths", b'{"skeletons": [[[1, 2, 3]], []]}'


def _bombs() -> Iterator[tuple[str, str, bytes]]:
    yield "ntu", "16 MiB of spaces", b" " * (16 << 20)
    yield "nw-ucla", "100,000 lists in one another", b"[" * 100_000
    yield "nw-ucla", "32 MiB of empty lists", b'{"skeletons": [' + b"[]," * (32 * 2**20 // 3) + b"[]]}"
    yield "sbu", "16 MiB of commas", b"," * (16 << 20)
    yield "pyskl", "a call of os.abort in it", pickle.dumps([_PickledCall(os.abort)])
    yield "pyskl", "a call of eval in it", pickle.dumps([_PickledCall(eval, "__import__('os')._exit(3)")])
    yield "pyskl", "an array of objects", _pyskl(np.full((1, 2, 25, 3), None, object))
    yield "pyskl", "a memo of 2^32 places", b"\x80\x04r\xff\xff\xff\xff."
    yield "pyskl", "2^60 lists, by reference", _pyskl(_walk(25)[None], label=_nested(60))
    yield "pyskl", "one array of 3 MB under 20,000 names", _shared()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 20, 3)}
    yield "table", "an array that claims 10^9 frames", _zipped(_header(header) + bytes(240))
    whole = {"descr": "|u1", "fortran_order": False, "shape": (1 << 30,)}
    yield "table", "a GiB of zeros, packed", _zipped(_header(whole) + bytes(1 << 30))


class _PickledCall:
    """An object that is pickled as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def _walk(joints: int) -> NDArray[np.float32]:
    """Somebody who moves a little, [20, joints, 3] metres."""
    steps = np.random.default_rng(joints).normal(0, 0.01, (_FRAMES, joints, 3)).cumsum(0)
    return (steps + np.random.default_rng(1).normal([0, 0, 3], 0.3, (joints, 3))).astype(np.float32)


def _ntu(frames: NDArray[np.float32]) -> bytes:
    lines = [str(len(frames))]
    for joints in frames.astype(float).tolist():
        lines += ["1", "72057 0 1 1 1 1 0 0.1 -0.2 2", str(len(joints))]
        lines += [f"{x!r} {y!r} {z!r} 1 2 3 4 0 0 0 0 2" for x, y, z in joints]
    return ("\n".join(lines) + "\n").encode()


def _nw_ucla(frames: NDArray[np.float32]) -> bytes:
    return json.dumps({"file_name": "x", "skeletons": frames.astype(float).tolist(), "label": 1}).encode()


def _sbu() -> bytes:
    rows = np.random.default_rng(1).uniform(0.3, 0.6, (_FRAMES, 90))
    return "".join(f"{t + 1},{','.join(f'{v:.6f}' for v in row)}\n" for t, row in enumerate(rows)).encode()


def _pyskl(keypoint: Any, **more: Any) -> bytes:
    return pickle.dumps([{"frame_dir": "S001C001P001R001A001", "label": 0, "keypoint": keypoint, **more}])


def _npz(frames: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, frames=frames)
    return stream.getvalue()


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value, value]
    return value


def _shared() -> bytes:
    points = np.random.default_rng(0).normal(1, 0.1, (1, 10_000, 25, 3)).astype(np.float32)
    return pickle.dumps([{"frame_dir": f"take-{number}", "keypoint": points} for number in range(20_000)])


def _header(header: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _zipped(array: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("frames.npy", array)
    return stream.getvalue()


if __name__ == "__main__":
    main()
