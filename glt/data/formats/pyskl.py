"""PYSKL's and MMAction2's annotation pickles: one file per data set, 2D (COCO-17) or 3D skeletons, named splits.

``{"split": {name: [frame_dir, ...]}, "annotations": [{"frame_dir", "label", "keypoint" [M, T, V, C], ...}, ...]}``, or
the list of annotations alone. 2D points come in pixels, y down; `read_all` gives them in heights of the image, y up, as
a plane (z = 0). No code in a pickle is run: see `plain_pickle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glt.data.formats import ntu
from glt.data.formats.arrays import plain_pickle
from glt.data.formats.format import Format
from glt.data.layouts import COCO17, KINECT20, NTU25, Skeleton
from glt.data.recording import Recording, Rejection

LAYOUTS: dict[tuple[int, int], Skeleton] = {(25, 3): NTU25, (20, 3): KINECT20, (17, 2): COCO17}  # by V and C


def read_all(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording | Rejection]:
    """Yield a recording for each annotation, or a Rejection named by its `frame_dir`.

    Raises:
        Rejection: not such a pickle.
    """
    data = plain_pickle(content)
    splits: dict[str, tuple[str, ...]] = {}
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        splits = _splits(data.get("split", {}))
        data = data["annotations"]
    if not isinstance(data, list):
        raise Rejection("format", "neither a list of annotations nor a dict with the key `annotations`")
    if not data:
        raise Rejection("empty", "no annotations")
    left = len(content)  # bytes of arrays to come; a file that names one array many times could fill any disk
    for index, annotation in enumerate(data):
        points = annotation.get("keypoint") if isinstance(annotation, dict) else None
        left -= points.nbytes if isinstance(points, np.ndarray) else 0
        if left < 0:
            raise Rejection("too-large", "its annotations share arrays: together they are larger than the file")
        try:
            yield _recording(annotation, splits)
        except Rejection as rejection:
            frame_dir = annotation.get("frame_dir") if isinstance(annotation, dict) else None
            name = frame_dir if isinstance(frame_dir, str) else f"annotation-{index}"
            yield Rejection(rejection.check, rejection.reason, name=name)


def _splits(given: Any) -> dict[str, tuple[str, ...]]:
    """The names of the splits of each recording."""
    if not isinstance(given, dict) or not all(isinstance(names, (list, tuple)) for names in given.values()):
        raise Rejection("format", "`split` is not a dict of lists of names")
    by_name: dict[str, list[str]] = {}
    for split, names in given.items():
        for name in names:
            by_name.setdefault(str(name), []).append(str(split))
    return {name: tuple(dict.fromkeys(those)) for name, those in by_name.items()}


def _recording(annotation: Any, splits: Mapping[str, tuple[str, ...]]) -> Recording:
    if not isinstance(annotation, dict):
        raise Rejection("format", "an annotation that is no dict")
    name, points = annotation.get("frame_dir"), annotation.get("keypoint")
    if not isinstance(name, str) or not name.strip():
        raise Rejection("format", "no `frame_dir`")
    if not isinstance(points, np.ndarray) or points.ndim != 4 or points.dtype.kind not in "fiu":
        raise Rejection("format", "`keypoint` is not an array of numbers [M, T, V, C]")
    points = np.asarray(points)
    _, length, joints, coordinates = points.shape
    if (joints, coordinates) not in LAYOUTS:
        known = ", ".join(f"{v} of {c}" for v, c in LAYOUTS)
        raise Rejection("joints", f"{joints} joints of {coordinates} coordinates; known are {known}")
    if annotation.get("total_frames", length) != length:
        raise Rejection("format", f"`total_frames` is {_shown(annotation['total_frames'])}, `keypoint` has {length}")
    skeleton = LAYOUTS[joints, coordinates]
    with np.errstate(over="ignore", invalid="ignore"):  # the check for finite coordinates reports it
        frames = np.moveaxis(points, 0, 1).astype(np.float32)  # T, M, V, C
    confidence = _confidence(annotation.get("keypoint_score"), points.shape[:3])
    seen: NDArray[np.bool_] = np.asarray((frames != 0).any(axis=(2, 3)))
    if confidence is not None:
        seen = seen & (confidence > 0).any(axis=2)
    if coordinates == 2:
        frames = _upright(frames, annotation.get("img_shape", annotation.get("original_shape")))
    match = ntu.NAME.fullmatch(f"{name}.skeleton")
    setup, camera, subject, replication = (int(number) for number in match.groups()[:4]) if match else [None] * 4
    return Recording(
        name=name,
        frames=np.where(seen[:, :, None, None], frames, np.float32(0)),
        present=seen,
        skeleton=skeleton,
        label=_label(annotation.get("label"), match[5] if match else None),
        subject=subject,
        camera=camera,
        setup=setup,
        replication=replication,
        splits=splits.get(name, ()),
        confidence=confidence,
    )


def _confidence(scores: Any, shape: tuple[int, ...]) -> Any:
    if scores is None:
        return None
    if not isinstance(scores, np.ndarray) or scores.shape != shape or scores.dtype.kind not in "fiu":
        raise Rejection("format", f"`keypoint_score` is not an array of numbers {list(shape)}")
    return np.clip(np.nan_to_num(np.moveaxis(scores, 0, 1).astype(np.float32)), 0, 1)


def _upright(frames: Any, shape: Any) -> Any:
    """Pixels [T, M, V, 2] -> image heights from the image's centre [T, M, V, 3], y up, z = 0."""
    if not isinstance(shape, (tuple, list)) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape[:2]):
        raise Rejection("format", "2D points without `img_shape` (height, width): their scale is not known")
    height, width = shape[:2]
    x, y = (frames[..., 0] - width / 2) / height, (height / 2 - frames[..., 1]) / height
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.float32)


def _label(label: Any, action: str | None) -> str | None:
    """NTU's class name if the recording's name holds one (the label, from 0, must agree), else the label."""
    if label is None:
        return None
    if isinstance(label, np.integer):
        label = int(label)
    if isinstance(label, str) and label.strip():
        return label
    if type(label) is not int or label < 0:
        raise Rejection("label", f"label {_shown(label)}: expected a whole number of at least 0, or a name")
    if action is not None and int(action[1:]) != label + 1:
        raise Rejection("label", f"the name says action {action}, the label {label} is A{label + 1:03}")
    return action or str(label)


def _shown(value: Any) -> str:
    """A value for a message; only the type if it is neither number nor text, since it may be huge."""
    return f"{value!r:.40}" if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"


FORMAT = Format(version=1, suffixes=(".pkl", ".pickle"), read=read_all)
