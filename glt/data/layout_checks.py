"""Checks of a set of clips against its layout: vertical axis, handedness, unit, and order of the joints.

Each finds a mistake that all clips share, and names the field of `skeleton.yaml` that corrects it. They judge the poses
of clips drawn at random; joints that a clip does not show are left out. People differ from clip to clip, so one clip
proves nothing, and fewer than three clips are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glt.data.absent import absent_joints
from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.data.layouts import Skeleton

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CLIPS, POSES = 200, 20  # clips that are judged, poses of each
_LEAST = 3  # clips; of fewer, all may show people lying down
_MANY, _NEARLY_ALL = 0.5, 0.75  # shares of the clips
_TILT = 0.5  # least upward share of the vector from feet to head of a person who stands or sits
_BACKWARDS = -0.5  # of the net forward share, from -1 to 1
_LEAST_BENT = 10  # clips; elbows and knees may bend either way in a few
_SIZES = {"m": (0.5, 3.0), "image height": (0.0, 1.5)}  # of a whole person
_TALL = 1.7  # metres
_SHORTER = 0.03  # of the length of all bones, by which exchanging two joints shortens them at most
_JOINTS = 100  # of a layout; larger ones are meshes, whose points have no order to judge

_HEADS = ("head", "nose", "neck")
_FEET = ("foot", "ankle", "toe", "knee", "hip")
_TOES, _HEELS = ("toe", "foot"), ("heel", "ankle")
_LEG = (("hip",), ("knee",), ("ankle", "foot"))
_ARM = (("shoulder",), ("elbow",), ("wrist", "hand"))
_SIDES = ("left", "right")


@dataclass(frozen=True)
class _Sample:
    """Poses of some clips.

    Attributes:
        skeleton: their layout.
        names: of the clips.
        poses: [n, K, 3] of each clip; NaN where it does not show the joint.
        shown: bool [K], joints that some clip shows.
        source: format of the recordings.
    """

    skeleton: Skeleton
    names: Sequence[str]
    poses: Sequence[Floats]
    shown: Bools
    source: str

    def joints(self, *names: str, side: str = "") -> list[int]:
        """Shown joints whose name contains the first of `names` that any joint's name of that side contains."""
        named = enumerate(map(str.lower, self.skeleton.joints))
        sided = [(joint, name) for joint, name in named if side in name and self.shown[joint]]
        for name in names:
            if found := [joint for joint, given in sided if name in given]:
                return found
        return []

    def remedy(self, field: str) -> str:
        """The change that corrects the layout."""
        if self.source == "table":
            return f"set `{field}` in skeleton.yaml"
        return f"`{field}` in skeleton.yaml corrects it if they are given as tables, see docs/formats.md"


def findings(store: ClipStore) -> list[Finding]:
    """Alarms about the layout: the checks `upright`, `mirror`, `unit` and `joints`.

    A layout without the joints that a check looks at is not judged by it.
    """
    if len(store.index) < _LEAST:
        return []
    sample = _sample(store)
    order, unit = _joints(sample), _unit(sample)
    axes = (_upright(sample), _mirror(sample)) if order is None else ()  # joints in another order show no axes
    return [finding for finding in (order, *axes, unit) if finding is not None]


def _sample(store: ClipStore) -> _Sample:
    rows = np.sort(np.random.default_rng(0).permutation(len(store.index))[:CLIPS])
    poses = []
    for row in rows.tolist():
        frames, present = store.clip(row)
        absent, persons = absent_joints(frames, present, store.skeleton), []
        for person in np.flatnonzero(present.any(axis=0)):
            points = frames[present[:, person], person].astype(np.float64)
            points[:, absent[person]] = np.nan
            persons.append(points[np.unique(np.linspace(0, len(points) - 1, POSES).round().astype(int))])
        poses.append(np.concatenate(persons))
    names = list(map(str, store.index["name"].to_numpy()[rows]))
    shown = np.any([~np.isnan(one).all(axis=(0, 2)) for one in poses], axis=0)
    return _Sample(store.skeleton, names, poses, shown, str(store.info.get("format", "")))


def _upright(sample: _Sample) -> Finding | None:
    """Heads are not above feet in most clips, and on the same other side in nearly all."""
    heads, feet = sample.joints(*_HEADS), sample.joints(*_FEET)
    if not heads or not feet:
        return None
    up = sample.skeleton.up
    ways = np.array([_median(_mean(poses, heads) - _mean(poses, feet)) for poses in sample.poses])
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    along = np.concatenate([ways, -ways], axis=1) > _TILT * lengths  # x, y, z, -x, -y, -z
    fallen = ~along[:, up]
    other = int(np.argmax(along.mean(axis=0)))
    if fallen.mean() <= _MANY or along[:, other].mean() < _NEARLY_ALL:
        return None
    side = ("x", "y", "z", "-x", "-y", "-z")[other]
    text = (
        f"heads are not above feet in {int(fallen.sum())} of {len(fallen)} clips, but towards {side}; "
        f"`up: {'xyz'[up]}` of layout {sample.skeleton.name} is probably wrong: {sample.remedy(f'up: {side}')}"
    )
    return Finding("upright", "alarm", text, _named(sample, fallen))


def _mirror(sample: _Sample) -> Finding | None:
    """Toes, noses, or elbows and knees point backwards: left and right are exchanged."""
    parts = _forward_parts(sample)
    if parts is None or all(_is_flat(poses) for poses in sample.poses):
        return None  # a plane looks the same from behind
    what, least, vectors = parts
    if len(sample.poses) < least:
        return None
    scores = np.array([_median((vectors(poses) * _ahead(sample, poses)).sum(axis=1)) for poses in sample.poses])
    total = np.nansum(np.abs(scores))
    if total == 0 or np.nansum(scores) / total > _BACKWARDS:
        return None
    wrong = scores < 0
    text = (
        f"{what} point backwards in {int(wrong.sum())} of {len(wrong)} clips: the axes are left-handed "
        f"({sample.remedy('mirror: x')}), or joints of the left side are named right (`joints`)"
    )
    return Finding("mirror", "alarm", text, _named(sample, wrong))


def _is_flat(poses: Floats) -> bool:
    """True if all joints lie in a plane z = c."""
    depth = poses[..., 2]
    return bool(np.nanmin(depth) == np.nanmax(depth))


def _forward_parts(sample: _Sample) -> tuple[str, int, Callable[[Floats], Floats]] | None:
    """Parts of the body that point forward: their name, the least number of clips, and poses -> vectors [n, 3]."""
    sides = ("left", "right")
    feet = [(sample.joints(*_TOES, side=side), sample.joints(*_HEELS, side=side)) for side in sides]
    feet = [(toes, heels) for toes, heels in feet if toes and heels]
    if feet:
        return "toes", _LEAST, lambda poses: _shown_mean([_mean(poses, t) - _mean(poses, h) for t, h in feet])
    nose = sample.joints("nose")
    ears = [joint for joint in sample.joints("ear") if joint not in sample.joints("forearm")]
    if nose and ears:
        return "noses", _LEAST, lambda poses: _mean(poses, nose) - _mean(poses, ears)
    legs, arms = ([[sample.joints(*names, side=side)[:1] for names in limb] for side in sides] for limb in (_LEG, _ARM))
    if not all(part for parts in arms for part in parts):
        return None
    knees = [np.concatenate(parts) for parts in legs if all(parts)]
    elbows = [np.concatenate(parts) for parts in arms]

    def bends(poses: Floats) -> Floats:
        """Knees bend forward, elbows backward."""
        forward = [_bend(poses, limb) for limb in knees] + [-_bend(poses, limb) for limb in elbows]
        return np.asarray(np.sum(forward, axis=0))

    return "knees and elbows" if knees else "elbows", _LEAST_BENT, bends


def _bend(poses: Floats, limb: NDArray[np.int64]) -> Floats:
    """Vector [n, 3] from the line between the ends of a limb to its middle joint."""
    start, middle, end = (poses[:, joint] for joint in limb)
    along, across = end - start, middle - start
    length = (along**2).sum(axis=1, keepdims=True)
    share = (along * across).sum(axis=1, keepdims=True) / np.where(length > 0, length, 1)
    return np.asarray(across - share * along)


def _ahead(sample: _Sample, poses: Floats) -> Floats:
    """Direction that each person faces in right-handed axes, [n, 3]: left x up."""
    left, right = sample.skeleton.shoulders
    hips = sample.joints("hip", *_FEET)
    if hips:
        up = poses[:, [left, right]].mean(axis=1) - _mean(poses, hips)
    else:
        up = np.eye(3)[[sample.skeleton.up]]
    return np.asarray(np.cross(poses[:, left] - poses[:, right], up))


def _unit(sample: _Sample) -> Finding | None:
    """People are far too large or too small for the unit."""
    skeleton = sample.skeleton
    sizes = np.array(
        [_median(np.linalg.norm(np.nanmax(p, axis=1) - np.nanmin(p, axis=1), axis=1)) for p in sample.poses]
    )
    size = float(np.nanmedian(sizes))
    smallest, largest = _SIZES[skeleton.unit]
    whole = sample.joints(*_HEADS) and sample.joints(*_FEET[:3])
    if size <= largest and (size >= smallest or not whole):
        return None
    units = {"cm": 100.0, "mm": 1000.0}
    fits = [
        unit for unit, number in units.items() if 0.5 < size / number / _TALL < 2 and skeleton.unit == "m" and whole
    ]
    if fits:
        advice = sample.remedy(f"unit: {fits[0]}")
    elif size > largest:
        advice = f"correct `unit`; if they are pixels, {sample.remedy('unit: pixel')}, with `image_height`"
    else:
        advice = "scale the recordings, or correct `unit`"
    unit = skeleton.unit if skeleton.unit == "m" else f"{skeleton.unit}s"
    text = f"people extend over {size:.4g} {unit} in the median of {len(sizes)} clips, as if in another unit: {advice}"
    return Finding("unit", "alarm", text, _named(sample, (sizes > largest) | (sizes < smallest)))


def _joints(sample: _Sample) -> Finding | None:
    """Exchanging two joints shortens the bones, or arms and legs disagree on left and right."""
    names = sample.skeleton.joints
    if len(names) > _JOINTS:
        return None
    adjacent = np.zeros((len(names), len(names)))
    for start, end in sample.skeleton.bones:
        adjacent[start, end] = adjacent[end, start] = 1
    if adjacent.sum(axis=0).max() > 2 + len(names) / 4:
        return None  # bones that all meet in one joint follow no body
    distances = np.full(adjacent.shape, np.nan)
    both = np.ix_(sample.shown, sample.shown)
    distances[both] = np.nanmedian([_distances(poses)[both] for poses in sample.poses], axis=0)
    shorter = savings(distances, adjacent)
    one, other = divmod(int(shorter.argmax()), len(names))
    if shorter[one, other] <= _SHORTER:
        return _crossed(sample)
    text = (
        f"the bones of layout {sample.skeleton.name} would be {shorter[one, other]:.0%} shorter if {names[one]} and "
        f"{names[other]} were exchanged: the joints of the recordings are probably in another order than `joints`, or "
        "`bones` joins joints that are not neighbours"
    )
    return Finding("joints", "alarm", text, (names[one], names[other]))


def savings(distances: Floats, adjacent: Floats) -> Floats:
    """Share of the length of all bones that exchanging two joints saves, [K, K].

    Args:
        distances: between joints, [K, K]; NaN for joints that no clip shows, whose bones do not count.
        adjacent: 1 where a bone joins two joints, [K, K].
    """
    hidden: Bools = np.asarray(np.isnan(distances).all(axis=1))
    distances, adjacent = np.nan_to_num(distances), adjacent * ~hidden * ~hidden[:, None]
    moved = adjacent @ distances  # length of the bones of joint i if it stood where j stands
    own = np.diag(moved)
    saved = own[:, None] + own - moved - moved.T - 2 * adjacent * distances  # their common bone stays
    saved[hidden] = saved[:, hidden] = 0
    total = (adjacent * distances).sum() / 2
    return np.asarray(saved / total if total else np.zeros_like(saved))


def _crossed(sample: _Sample) -> Finding | None:
    """The left hip is on the side of the right shoulder in nearly all clips."""
    left, right = (sample.joints("hip", side=side)[:1] for side in _SIDES)
    if not left or not right or len(sample.poses) < _LEAST:
        return None
    shoulders = sample.skeleton.shoulders
    across = [
        ((p[:, left[0]] - p[:, right[0]]) * (p[:, shoulders[0]] - p[:, shoulders[1]])).sum(axis=1) for p in sample.poses
    ]
    crossed = np.array([bool(_median(one) < 0) for one in across])
    if crossed.mean() < _NEARLY_ALL:
        return None
    text = (
        f"the left hip is below the right shoulder in {int(crossed.sum())} of {len(crossed)} clips: left and right are "
        "exchanged among `joints`, or in `shoulders`"
    )
    return Finding("joints", "alarm", text, _named(sample, crossed))


def _distances(poses: Floats) -> Floats:
    """Mean distances between the joints of a clip, [K, K], in extents of the body."""
    total = np.linalg.norm(poses[:, :, None] - poses[:, None], axis=-1).mean(axis=0)
    return np.asarray(total / max(float(np.nanmax(total)), 1e-9))


def _mean(poses: Floats, joints: Sequence[int]) -> Floats:
    """Mean position [n, 3] of those joints that are shown."""
    return _shown_mean(list(np.moveaxis(poses[:, joints], 1, 0)))


def _shown_mean(vectors: Sequence[Floats]) -> Floats:
    """Mean of vectors [n, 3], without those that are NaN; NaN where all are."""
    stacked = np.stack(vectors)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    return np.asarray(np.where(count > 0, np.where(known, stacked, 0).sum(axis=0) / np.maximum(count, 1), np.nan))


def _median(values: Floats) -> Floats:
    return np.asarray(np.median(values, axis=0))


def _named(sample: _Sample, where: Bools) -> tuple[str, ...]:
    return tuple(name for name, one in zip(sample.names, where.tolist(), strict=True) if one)[:20]
