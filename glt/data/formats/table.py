"""The project's own format: one NPZ or Parquet per recording, and the sidecars ``skeleton.yaml`` and ``labels.csv``.

docs/formats.md describes it, with an example.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glt.data.formats.arrays import npz
from glt.data.formats.format import Format
from glt.data.layouts import Skeleton, parse_skeleton
from glt.data.recording import Recording, Rejection
from glt.errors import GltError

SKELETON, LABELS = "skeleton.yaml", "labels.csv"
NUMBERS = ("subject", "camera", "setup", "replication")
_COLUMNS = ("name", "label", "split", *NUMBERS)
_TIDY = ("frame", "person", "joint", "x", "y", "z")
_MOST_FRAMES, _MOST_PERSONS = 100_000, 100  # at most, since damage must not cost memory


def read_all(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording]:
    """Yield the recording; its name is that of the file without the suffix.

    Raises:
        Rejection: the file, its skeleton.yaml or its labels.csv is not as docs/formats.md specifies.
    """
    if SKELETON not in sidecars:
        raise Rejection("layout", f"no {SKELETON} in its folder or one above: it says which joints these are")
    skeleton, file = _skeleton(sidecars[SKELETON]), PurePosixPath(name)
    read = _parquet if file.suffix.lower() == ".parquet" else _npz
    frames, present, confidence = read(content, skeleton)
    row = _labels(sidecars.get(LABELS, b"name\n")).get(file.stem, {})
    yield Recording(
        name=file.stem,
        frames=frames,
        present=present,
        skeleton=skeleton,
        label=row.get("label"),
        splits=(row["split"],) if "split" in row else (),
        confidence=confidence,
        **{column: int(row[column]) for column in NUMBERS if column in row},  # type: ignore[arg-type]
    )


_Arrays = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32] | None]


def _npz(content: bytes, skeleton: Skeleton) -> _Arrays:
    """Arrays `frames` [T, P, K, 3] or [T, K, 3], optionally `present` [T, P] and `confidence` [T, P, K]."""
    arrays = npz(content)
    if unknown := sorted(set(arrays) - {"frames", "present", "confidence"}):
        raise Rejection("format", f"array {unknown[0]!r:.40}: expected frames, present and confidence")
    frames, single = _numbers(arrays.get("frames"), "frames"), False
    if frames.ndim == 3:
        frames, single = frames[:, None], True
    if frames.ndim != 4:
        raise Rejection("joints", f"frames has shape {list(frames.shape)}, expected [T, P, K, 3] or [T, K, 3]")
    shape = frames.shape[:3]
    if shape[2:] != (len(skeleton.joints),) or frames.shape[3] != 3:
        found = f"{frames.shape[2]} joints of {frames.shape[3]} coordinates"
        raise Rejection("joints", f"{found}, layout {skeleton.name} has {len(skeleton.joints)} of 3")
    present = np.asarray(arrays.get("present", (frames != 0).any(axis=(2, 3))))
    if single and present.ndim == 1:
        present = present[:, None]
    if present.dtype != bool or present.shape != shape[:2]:
        raise Rejection("format", f"present is not an array of bool {list(shape[:2])}")
    confidence = arrays.get("confidence")
    if confidence is not None:
        confidence = _numbers(confidence, "confidence")
        confidence = confidence[:, None] if single and confidence.ndim == 2 else confidence
        if confidence.shape != shape:
            raise Rejection("format", f"confidence has shape {list(confidence.shape)}, expected {list(shape)}")
    return frames, present, confidence


def _parquet(content: bytes, skeleton: Skeleton) -> _Arrays:
    """One row per joint, person and frame: frame and person (from 0), joint (name), x, y, z, optionally confidence."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        rows = file.metadata.num_rows
        most = _MOST_FRAMES * len(skeleton.joints)
        if rows > most:
            raise Rejection("too-large", f"{rows} rows, more than {most}")
        table = {
            name: column.to_numpy() for name, column in zip(file.schema_arrow.names, file.read().columns, strict=True)
        }
    except Rejection:
        raise
    except Exception as error:  # Arrow's errors share no base with Python's
        raise Rejection("format", f"not a readable Parquet ({type(error).__name__}: {error!s:.80})") from None
    if missing := [column for column in _TIDY if column not in table]:
        raise Rejection("format", f"no column {missing[0]}; expected {', '.join(_TIDY)}")
    index = {joint: position for position, joint in enumerate(skeleton.joints)}
    unknown = [joint for joint in dict.fromkeys(table["joint"].tolist()) if joint not in index]
    if unknown:
        raise Rejection("joints", f"joint {unknown[0]!r:.40} is not in layout {skeleton.name}")
    frame, person = (_counts(table[column], column) for column in ("frame", "person"))
    if not len(frame):
        return np.zeros((0, 0, len(index), 3), np.float32), np.zeros((0, 0), bool), None
    length, persons = int(frame.max()) + 1, int(person.max()) + 1
    if length > _MOST_FRAMES or persons > _MOST_PERSONS:
        raise Rejection("too-large", f"{length} frames of {persons} persons")
    joint = np.array([index[name] for name in table["joint"].tolist()])
    counts = np.zeros((length, persons, len(index)), np.int64)
    np.add.at(counts, (frame, person, joint), 1)
    if (counts > 1).any():
        t, p, k = np.argwhere(counts > 1)[0]
        raise Rejection("format", f"frame {t}, person {p}, joint {skeleton.joints[k]!r} stands twice")
    present = np.asarray(counts.any(axis=2))
    if (counts[present] == 0).any():
        t, p, k = next(point for point in np.argwhere(counts == 0) if present[point[0], point[1]])
        raise Rejection("joints", f"frame {t}, person {p} has no {skeleton.joints[k]!r}")
    frames = np.zeros((length, persons, len(index), 3), np.float32)
    for axis, column in enumerate("xyz"):
        frames[frame, person, joint, axis] = _numbers(table[column], column)
    confidence = None
    if "confidence" in table:
        confidence = np.zeros(counts.shape, np.float32)
        confidence[frame, person, joint] = _numbers(table["confidence"], "confidence")
    return frames, present, confidence


def _numbers(values: Any, what: str) -> NDArray[np.float32]:
    if values is None or values.dtype.kind not in "fiu":
        raise Rejection("format", f"no {what}, or not of numbers")
    with np.errstate(over="ignore"):  # the check for finite coordinates reports it
        return np.asarray(values, np.float32)


def _counts(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    if values.dtype.kind not in "iu" or (values < 0).any() or (values > _MOST_FRAMES).any():
        raise Rejection("format", f"{what}: expected whole numbers from 0 to {_MOST_FRAMES}")
    return values.astype(np.int64)


@functools.lru_cache(maxsize=64)
def _skeleton(content: bytes) -> Skeleton:
    try:
        return parse_skeleton(content.decode("utf-8"))
    except (UnicodeDecodeError, GltError) as error:
        raise Rejection("layout", f"{SKELETON}: {error}") from None


@functools.lru_cache(maxsize=64)
def _labels(content: bytes) -> dict[str, dict[str, str]]:
    """The rows of labels.csv by recording name, without empty cells."""

    def fail(why: str) -> Rejection:
        return Rejection("labels", f"{LABELS}: {why}")

    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise fail(f"not a CSV in UTF-8 ({error!s:.80})") from None
    header = [column.strip() for column in rows[0]] if rows else []
    if "name" not in header or len(set(header)) < len(header):
        raise fail("no column `name`, or a column twice")
    if unknown := [column for column in header if column not in _COLUMNS]:
        raise fail(f"column {unknown[0]!r:.40}: expected some of {', '.join(_COLUMNS)}")
    by_name: dict[str, dict[str, str]] = {}
    for line, cells in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise fail(f"line {line}: {len(cells)} cells, the header has {len(header)}")
        row = {column: cell.strip() for column, cell in zip(header, cells, strict=True) if cell.strip()}
        name = row.pop("name", "")
        if not name or name in by_name:
            raise fail(f"line {line}: {'no name' if not name else f'{name!r:.60} stands twice'}")
        for column in NUMBERS:
            if column in row and not (row[column].isascii() and row[column].isdigit() and len(row[column]) <= 9):
                raise fail(f"line {line}: {column} {row[column]!r:.20} is not a whole number of at least 0")
        by_name[name] = row
    return by_name


FORMAT = Format(version=1, suffixes=(".npz", ".parquet"), read=read_all, sidecars=(SKELETON, LABELS))
