"""The project's own format: one NPZ or Parquet per recording, and the sidecars ``skeleton.yaml`` and ``labels.csv``.

docs/formats.md describes it, with an example.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glt.data import limits
from glt.data.formats.arrays import npz
from glt.data.formats.columns import Columns
from glt.data.formats.format import Format
from glt.data.formats.labels import NUMBERS, parse_labels
from glt.data.formats.text_file import plain
from glt.data.layouts import Skeleton
from glt.data.recording import Recording, Rejection
from glt.data.skeleton_yaml import SkeletonFile, parse_skeleton_file
from glt.errors import GltError

SKELETON, LABELS = "skeleton.yaml", "labels.csv"
_TIDY = ("frame", "person", "joint", "x", "y")


def read_all(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording]:
    """Yield the recording; its name is that of the file without the suffix.

    Raises:
        Rejection: the file, its skeleton.yaml or its labels.csv is not as docs/formats.md specifies.
    """
    if SKELETON not in sidecars:
        raise Rejection("layout", f"no {SKELETON} in its folder or one above: it says which joints these are")
    layout, file = _layout(sidecars[SKELETON]), PurePosixPath(name)
    stem, fault = limits.stored_text(file.stem, "a name")
    if fault or not stem:
        raise Rejection("name", fault or "the name has only spaces")
    labels = parse_labels(sidecars[LABELS]) if LABELS in sidecars else None
    row = labels.row(name) if labels else {}
    read = _parquet if file.suffix.lower() == ".parquet" else _npz
    frames, present, confidence = read(content, layout.skeleton)
    yield Recording(
        name=stem,
        frames=layout.coordinates(frames),
        present=present,
        skeleton=layout.skeleton,
        label=row.get("label"),
        splits=(row["split"],) if "split" in row else (),
        confidence=confidence,
        coordinates=layout.coordinates,
        warnings=labels.warnings if labels else (),
        **{column: int(row[column]) for column in NUMBERS if column in row},  # type: ignore[arg-type]
    )


_Arrays = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32] | None]


def _npz(content: bytes, skeleton: Skeleton) -> _Arrays:
    """Arrays `frames` [T, P, K, 3 or 2] (P may be missing), optionally `present` [T, P], `confidence` [T, P, K]."""
    arrays = npz(content, ("frames", "present", "confidence"))
    frames, single = _numbers(arrays.pop("frames", None), "frames"), False
    if frames.ndim == 3:
        frames, single = frames[:, None], True
    if frames.ndim != 4:
        raise Rejection(
            "joints", f"frames has shape {list(frames.shape)}, expected [T, P, K, 3 or 2] or [T, K, 3 or 2]"
        )
    shape = frames.shape[:3]
    if reason := limits.too_large(shape):
        raise Rejection("too-large", reason)
    if shape[2:] != (len(skeleton.joints),) or frames.shape[3] not in (2, 3):
        found = f"{frames.shape[2]} joints of {frames.shape[3]} coordinates"
        raise Rejection(
            "joints", f"{found}, layout {skeleton.name} has {len(skeleton.joints)} of 3, or of 2 in a plane"
        )
    if frames.shape[3] == 2:
        frames = np.pad(frames, ((0, 0), (0, 0), (0, 0), (0, 1)))
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
        confidence = np.nan_to_num(confidence)
    return frames, present, confidence


def _parquet(content: bytes, skeleton: Skeleton) -> _Arrays:
    """One row per joint, person and frame: frame and person (from 0), joint (name), x, y, optionally z, confidence."""
    with Columns(content, (*_TIDY, "z", "confidence")) as columns:
        if missing := [column for column in _TIDY if column not in columns.names]:
            raise Rejection("format", f"no column {missing[0]}; expected {', '.join(_TIDY)}")
        joints = len(skeleton.joints)
        joint = columns.texts("joint", skeleton.joints, f"layout {skeleton.name}")
        if not len(joint):
            return np.zeros((0, 0, joints, 3), np.float32), np.zeros((0, 0), bool), None
        frame, person = columns.counts("frame", limits.FRAMES), columns.counts("person", limits.PERSONS - 1)
        shape = (int(frame.max()) + 1, int(person.max()) + 1, joints)
        if reason := limits.too_large(shape):
            raise Rejection("too-large", reason)
        point = (frame.astype(np.int64) * shape[1] + person) * joints + joint  # row -> index of its point
        _check_points(point, shape, skeleton)
        frames = np.zeros((math.prod(shape), 3), np.float32)
        for axis, column in enumerate("xyz" if "z" in columns.names else "xy"):
            frames[point, axis] = _numbers(columns.numbers(column), column)
        confidence = None
        if "confidence" in columns.names:
            confidence = np.zeros(shape, np.float32)
            confidence.reshape(-1)[point] = np.nan_to_num(_numbers(columns.numbers("confidence"), "confidence"))
        present = np.zeros(shape[:2], bool)
        present[frame, person] = True
    return frames.reshape(*shape, 3), present, confidence


def _check_points(point: NDArray[np.int64], shape: tuple[int, ...], skeleton: Skeleton) -> None:
    """Reject rows that do not give every joint of each person in a frame exactly once."""
    counts = np.bincount(point, minlength=math.prod(shape)).reshape(shape)
    if (counts > 1).any():
        t, p, k = np.argwhere(counts > 1)[0]
        raise Rejection("format", f"frame {t}, person {p}, joint {skeleton.joints[k]!r} is given twice")
    incomplete = (counts == 0) & counts.any(axis=2, keepdims=True)
    if incomplete.any():
        t, p, k = np.argwhere(incomplete)[0]
        raise Rejection("joints", f"frame {t}, person {p} has no {skeleton.joints[k]!r}")


def _numbers(values: Any, what: str) -> NDArray[np.float32]:
    if values is None or values.dtype.kind not in "fiu":
        raise Rejection("format", f"no {what}, or not of numbers")
    with np.errstate(over="ignore"):  # the check for finite coordinates reports it
        return np.asarray(values, np.float32)


@functools.lru_cache(maxsize=64)
def _layout(content: bytes) -> SkeletonFile:
    if len(content) > limits.LAYOUT:
        raise Rejection("layout", f"{SKELETON}: {len(content)} bytes, more than {limits.LAYOUT}")
    try:
        return parse_skeleton_file(plain(content).decode("utf-8"))
    except Rejection as rejection:
        raise Rejection("layout", f"{SKELETON}: {rejection.reason}") from None
    except (UnicodeDecodeError, GltError) as error:
        raise Rejection("layout", f"{SKELETON}: {error}") from None


FORMAT = Format(version=4, suffixes=(".npz", ".parquet"), read=read_all, sidecars=(SKELETON, LABELS))
