"""PYSKL's and MMAction2's annotation pickles: one file per data set, 2D (COCO-17) or 3D skeletons, named splits.

``{"split": {name: [frame_dir, ...]}, "annotations": [{"frame_dir", "label", "keypoint" [M, T, V, C], ...}, ...]}``, or
the annotations alone: a list, a dict of lists by split, or a single one. 2D points come in pixels, y down; `read_all`
gives them in heights of the image, y up, as a plane (z = 0). No code in a pickle is run: see `plain_pickle`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glt import text
from glt.data import limits
from glt.data.formats import ntu
from glt.data.formats.arrays import items, plain_pickle
from glt.data.formats.format import Format
from glt.data.layouts import COCO17, KINECT20, NTU25, Skeleton
from glt.data.recording import Recording, Rejection

LAYOUTS: dict[tuple[int, int], Skeleton] = {(25, 3): NTU25, (20, 3): KINECT20, (17, 2): COCO17}  # by V and C
_ANNOTATION = 32  # least bytes of an annotation in a file; a million empty annotations must not cost memory
_OUTSIDE = 0.1  # share of the points outside of the image, above which its height and width are probably swapped

_Splits = Mapping[str, tuple[str, ...]]


def read_all(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording | Rejection]:
    """Yield a recording for each annotation, or a Rejection named by its `frame_dir`.

    Raises:
        Rejection: not such a pickle.
    """
    annotations, splits = _contents(plain_pickle(content))
    if not annotations:
        raise Rejection("empty", "no annotations")
    if len(annotations) > 1 + len(content) // _ANNOTATION:
        raise Rejection("too-large", f"{len(annotations)} annotations, more than the file can hold")
    warnings = _unmatched(annotations, splits)
    left = len(content)  # bytes of arrays to come; a file that names one array many times could fill any disk
    for index, annotation in enumerate(annotations):
        points = annotation.get("keypoint") if isinstance(annotation, dict) else None
        left -= points.nbytes if isinstance(points, np.ndarray) else 0
        if left < 0:
            raise Rejection("too-large", "its annotations share arrays: together they are larger than the file")
        try:
            recording = _recording(annotation, splits)
            yield replace(recording, warnings=(*recording.warnings, *warnings))
            warnings = warnings if not recording.splits else ()  # given once, unless no recording has a split
        except Exception as error:
            rejection = (
                error if isinstance(error, Rejection) else Rejection("reader", f"cannot be read ({error!r:.80})")
            )
            frame_dir = annotation.get("frame_dir") if isinstance(annotation, dict) else None
            name = _text(frame_dir) or f"annotation-{index}"
            yield Rejection(rejection.check, rejection.reason, name=limits.stored_text(name[: limits.TEXT], "")[0])


def _contents(data: Any) -> tuple[list[Any], _Splits]:
    """The annotations, and the names of the splits of each recording."""
    if not isinstance(data, dict):
        annotations = items(data)
        if annotations is None:
            raise Rejection("format", "neither a list of annotations nor a dict with the key `annotations`")
        return annotations, {}
    if "annotations" in data:
        annotations = data["annotations"]
        if isinstance(annotations, dict):
            annotations = list(annotations.values())
        found = items(annotations)
        if found is None:
            raise Rejection("format", "`annotations` is not a list")
        return found, _splits(data.get("split"))
    if "keypoint" in data:
        return [data], {}
    by_split = {split: items(annotations) for split, annotations in data.items()}
    if not by_split or any(annotations is None for annotations in by_split.values()):
        raise Rejection("format", "neither a list of annotations nor a dict with the key `annotations`")
    names = {
        split: [one.get("frame_dir") for one in annotations or () if isinstance(one, dict)]
        for split, annotations in by_split.items()
    }
    return [one for annotations in by_split.values() for one in annotations or ()], _splits(names)


def _splits(given: Any) -> _Splits:
    """The names of the splits of each recording."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Rejection("format", "`split` is not a dict of lists of names")
    by_name: dict[str, list[str]] = {}
    for key, listed in given.items():
        split, names = _text(key), items(listed)
        if not split or names is None:
            raise Rejection("format", "`split` is not a dict of lists of names")
        split, fault = limits.stored_text(split, "`split`: a name")
        for each in names:
            name = _text(each)
            if name is None or fault:
                raise Rejection("format", fault or f"`split`: {split!r:.60} lists {_shown(each)}, not a name")
            splits = by_name.setdefault(text.clean(name).strip(), [])
            if split not in splits:
                splits.append(split)
            if len(splits) > limits.SPLITS:
                raise Rejection("too-large", f"`split`: a recording in more than {limits.SPLITS} splits")
    return {name: tuple(splits) for name, splits in by_name.items()}


def _unmatched(annotations: list[Any], splits: _Splits) -> tuple[str, ...]:
    """A warning if names in `split` match no annotation."""
    given = (_text(one.get("frame_dir")) for one in annotations if isinstance(one, dict))
    names = {text.clean(name).strip() for name in given if name is not None}
    missing = [name for name in splits if name not in names]
    if not missing:
        return ()
    return (f"split: {len(missing)} of {len(splits)} names in `split` match no annotation (e.g. {missing[0]!r:.60})",)


def _recording(annotation: Any, splits: _Splits) -> Recording:
    if not isinstance(annotation, dict):
        raise Rejection("format", "an annotation that is not a dict")
    name = _text(annotation.get("frame_dir")) or ""
    if not name.strip():
        raise Rejection("format", "no `frame_dir`")
    name, fault = limits.stored_text(name, "`frame_dir`")
    if fault:
        raise Rejection("name", fault)
    points = _points(annotation.get("keypoint"))
    _, length, joints, coordinates = points.shape
    if reason := limits.too_large((length, *points.shape[:1], joints)):
        raise Rejection("too-large", reason)
    if (joints, coordinates) not in LAYOUTS:
        known = ", ".join(f"{v} of {c}" for v, c in LAYOUTS)
        raise Rejection("joints", f"{joints} joints of {coordinates} coordinates; known are {known}")
    total = annotation.get("total_frames")
    if total is not None and _whole(total) != length:
        raise Rejection("format", f"`total_frames` is {_shown(total)}, `keypoint` has {length}")
    skeleton = LAYOUTS[joints, coordinates]
    with np.errstate(over="ignore", invalid="ignore"):  # the check for finite coordinates reports it
        frames = np.moveaxis(points, 0, 1).astype(np.float32)  # T, M, V, C
    confidence = _confidence(annotation.get("keypoint_score"), points.shape[:3])
    seen: NDArray[np.bool_] = np.asarray((frames != 0).any(axis=(2, 3)))
    if confidence is not None:
        seen = seen & (confidence > 0).any(axis=2)
    warnings: tuple[str, ...] = ()
    if coordinates == 2:
        height, width = _image_size(annotation)
        warnings = _swapped(frames[seen], height, width)
        frames = _upright(frames, height, width)
    numbers = ntu.numbers(name)
    return Recording(
        name=name,
        frames=np.where(seen[:, :, None, None], frames, np.float32(0)),
        present=seen,
        skeleton=skeleton,
        label=_label(annotation.get("label"), numbers.pop("label", None)),
        splits=splits.get(name, ()),
        confidence=confidence,
        warnings=warnings,
        **numbers,
    )


def _points(given: Any) -> NDArray[Any]:
    """keypoint [M, T, V, C]; of one person also [T, V, C]."""
    if isinstance(given, np.ndarray) and given.ndim == 3 and given.shape[1:] in LAYOUTS:
        given = given[None]
    if not isinstance(given, np.ndarray) or given.ndim != 4 or given.dtype.kind not in "fiu":
        raise Rejection("format", "`keypoint` is not an array of numbers [M, T, V, C]")
    return np.asarray(given)


def _confidence(scores: Any, shape: tuple[int, ...]) -> Any:
    """Confidence [T, M, V] of `keypoint_score` [M, T, V], [M, T, V, 1] or, of one person, [T, V]."""
    if scores is None:
        return None
    if isinstance(scores, np.ndarray) and scores.shape in [(*shape, 1), *([shape[1:]] if shape[0] == 1 else [])]:
        scores = np.asarray(scores).reshape(shape)
    if not isinstance(scores, np.ndarray) or scores.shape != shape or scores.dtype.kind not in "fiu":
        raise Rejection("format", f"`keypoint_score` is not an array of numbers {list(shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.clip(np.nan_to_num(np.moveaxis(np.asarray(scores), 0, 1).astype(np.float32)), 0, 1)


def _image_size(annotation: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in pixels: `img_shape`, or `original_shape` where that is missing or None."""
    for field in ("img_shape", "original_shape"):
        given = annotation.get(field)
        if given is None:
            continue
        numbers = items(given)
        size = [_whole(number) for number in numbers[:2]] if numbers and len(numbers) in (2, 3) else []
        if len(size) != 2 or any(n is None or not 0 < n <= limits.IMAGE for n in size):
            raise Rejection("format", f"`{field}` is not (height, width) in pixels, from 1 to {limits.IMAGE}")
        return size[0] or 0, size[1] or 0
    raise Rejection("format", "2D points without `img_shape` (height, width): their scale is not known")


def _swapped(points: NDArray[np.float32], height: int, width: int) -> tuple[str, ...]:
    """A warning if points [n, V, 2] lie outside of the image, but inside of one with height and width swapped."""
    x, y = np.moveaxis(points, -1, 0)
    known = (x != 0) | (y != 0)
    outside = ((x > width) | (y > height))[known]
    if height == width or not outside.size or outside.mean() <= _OUTSIDE or ((x > height) | (y > width))[known].any():
        return ()
    return (f"img_shape: points lie outside of {width} x {height} pixels: are height and width swapped?",)


def _upright(frames: Any, height: int, width: int) -> Any:
    """Pixels [T, M, V, 2] -> image heights from the image's centre [T, M, V, 3], y up, z = 0."""
    x, y = (frames[..., 0] - width / 2) / height, (height / 2 - frames[..., 1]) / height
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.float32)


def _label(label: Any, action: str | None) -> str | None:
    """NTU's class name if the recording's name holds one (the label, from 0, must agree), else the label."""
    values = items(label)
    if values is not None and len(values) == 1:
        label = values[0]
    if label is None or (isinstance(label, (float, np.floating)) and math.isnan(label)):
        return None
    if isinstance(label, (str, bytes)):
        name, fault = limits.stored_text(_text(label) or "", "a label")
        if fault or not name:
            raise Rejection("label", fault or "label '': expected a whole number of at least 0, or a name")
        return name
    number = _whole(label)
    if number is None or not 0 <= number < 10**9:
        raise Rejection("label", f"label {_shown(label)}: expected a whole number of at least 0, or a name")
    if action is not None and int(action[1:]) != number + 1:
        raise Rejection("label", f"the name says action {action}, the label {number} is A{number + 1:03}")
    return action or str(number)


def _text(value: Any) -> str | None:
    """A name or label as text: a string, bytes, or a whole number; None for anything else."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return text.decode(value)
    number = _whole(value)
    return None if number is None or abs(number) > limits.LARGEST_NUMBER else str(number)


def _whole(value: Any) -> int | None:
    """A number as an integer: Python's or numpy's, also a float or an array of one value; None for anything else."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iuf":
        value = value.reshape(-1)[0]
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)) and math.isfinite(value) and value == int(value):
        return int(value)
    return None


def _shown(value: Any) -> str:
    """A value for a message; only the type if it is neither number nor text, since it may be huge."""
    if isinstance(value, int) and abs(value) > limits.LARGEST_NUMBER:
        return "a huge number"
    return f"{value!r:.40}" if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"


FORMAT = Format(version=3, suffixes=(".pkl", ".pickle"), read=read_all)
