"""Poses of clips drawn at random, and what can be measured on them: parts of the body by name, sizes, directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glt.data.absent import absent_joints
from glt.data.clips import ClipStore
from glt.data.layouts import Skeleton

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Measure = Callable[[Floats], Floats]  # poses [n, K, 3] -> vectors [n, 3]

CLIPS, POSES = 200, 20  # clips, poses of each
HEADS = ("head", "nose", "neck")
FEET = ("foot", "ankle", "toe", "knee", "hip", "shoulder")  # the lowest there are: of an upper body, the shoulders
_BELOW = ("hip", "upleg", "thigh", "knee", "ankle", "foot")  # of the shoulders
_LEG = (("hip",), ("knee",), ("ankle", "foot"))
_ARM = (("shoulder",), ("elbow",), ("wrist", "hand"))
_SIDES = ("left", "right")


@dataclass(frozen=True)
class PoseSample:
    """Poses of some clips.

    Attributes:
        skeleton: their layout.
        names: of the clips.
        poses: [n, K, 3] of each clip; NaN where it does not show the joint.
        shown: bool [K], joints that some clip shows.
        classes: number of classes of all clips; 0 if none is labelled.
    """

    skeleton: Skeleton
    names: Sequence[str]
    poses: Sequence[Floats]
    shown: Bools
    classes: int

    def joints(self, *names: str, side: str = "") -> list[int]:
        """Shown joints whose name contains the first of `names` that any joint's name of that side contains."""
        named = enumerate(map(str.lower, self.skeleton.joints))
        sided = [(joint, name) for joint, name in named if side in name and self.shown[joint]]
        for name in names:
            if found := [joint for joint, given in sided if name in given]:
                return found
        return []

    def medians(self, measure: Measure) -> Floats:
        """The median of a measure over each clip, [clips, 3]; NaN for a clip that does not show what is measured."""
        return np.array([shown_median(measure(poses)) for poses in self.poses]).reshape(len(self.poses), -1)

    def agreement(self, pair: tuple[int, int], other: tuple[int, int]) -> Floats:
        """Positive for clips in which the vectors between two pairs of joints point to the same side, [clips]."""
        ways = [[poses[:, one] - poses[:, two] for one, two in (pair, other)] for poses in self.poses]
        return np.array([shown_median((one * two).sum(axis=1)) for one, two in ways])

    def heads_over_feet(self) -> Floats | None:
        """Vectors [clips, 3] from feet to head; None if the layout lacks one of the two."""
        heads, feet = self.joints(*HEADS), self.joints(*FEET)
        if not heads or not feet:
            return None
        return self.medians(lambda poses: mean_of(poses, heads) - mean_of(poses, feet))

    def forward_part(self) -> tuple[str, Measure] | None:
        """A part of the body that points forward in nearly every pose: toes or noses, and its direction."""
        feet = [self._foot(side) for side in _SIDES]
        feet = [(toes, heels) for toes, heels in feet if toes and heels]
        if feet:
            return "toes", lambda poses: shown_mean([mean_of(poses, t) - mean_of(poses, h) for t, h in feet])
        nose = self.joints("nose")
        ears = [joint for joint in self.joints("ear") if joint not in self.joints("forearm")]
        return ("noses", lambda poses: mean_of(poses, nose) - mean_of(poses, ears)) if nose and ears else None

    def _foot(self, side: str) -> tuple[list[int], list[int]]:
        """Toes and heels, or ankles, of a side."""
        toes = self.joints("toe", side=side)
        if toes:
            return toes, [joint for joint in self.joints("heel", "ankle", "foot", side=side) if joint not in toes]
        return self.joints("foot", side=side), self.joints("heel", "ankle", side=side)

    def bends(self) -> tuple[Measure, Measure] | None:
        """Directions of bent knees, and the opposite directions of bent elbows; both point forward in most poses."""
        limbs = [[[self.joints(*one, side=side)[:1] for one in limb] for side in _SIDES] for limb in (_LEG, _ARM)]
        if not all(part for sides in limbs for parts in sides for part in parts):
            return None
        legs, arms = ([np.concatenate(parts) for parts in sides] for sides in limbs)
        return (
            lambda poses: shown_mean([_bend(poses, limb) for limb in legs]),
            lambda poses: shown_mean([-_bend(poses, limb) for limb in arms]),
        )

    def forward_scores(self, direction: Measure) -> Floats:
        """Forward component of a direction, median of each clip, [clips]; NaN in a plane, which has no handedness."""
        scores = self.medians(lambda poses: (direction(poses) * self._ahead(poses)).sum(axis=1, keepdims=True))[:, 0]
        scores[self.flat()] = np.nan
        return scores

    def _ahead(self, poses: Floats) -> Floats:
        """Direction that each person faces if the axes are right-handed, [n, 3]: left x up."""
        left, right = self.skeleton.shoulders
        below = [self.joints(name) for name in _BELOW]
        lower = next((joints for joints in below if joints and not {left, right} & set(joints)), [])
        heads = self.joints(*HEADS)
        shoulders = poses[:, [left, right]].mean(axis=1)
        up = np.tile(np.eye(3)[self.skeleton.up], (len(poses), 1))
        if lower:
            up = shoulders - mean_of(poses, lower)
        elif heads:
            up = mean_of(poses, heads) - shoulders
        return np.asarray(np.cross(poses[:, left] - poses[:, right], up))

    def sizes(self) -> Floats:
        """Extent of the body in each clip, [clips], in the layout's unit."""
        extents = (np.nanmax(poses, axis=1) - np.nanmin(poses, axis=1) for poses in self.poses)
        return np.array([np.median(np.linalg.norm(extent, axis=1)) for extent in extents])

    def flat(self) -> Bools:
        """Clips, bool [clips], whose joints all lie in a plane z = c."""
        return np.array([bool(np.nanmin(poses[..., 2]) == np.nanmax(poses[..., 2])) for poses in self.poses])

    def distances(self) -> tuple[Floats, Floats]:
        """Distances between joints in shares of the body, and their standard deviations within a clip, [K, K] each.

        Both are medians over clips, NaN if none shows the two joints. The deviation of a bone is small.
        """
        means, deviations = zip(*map(_distances, self.poses), strict=True)
        return _median_of_shown(means), _median_of_shown(deviations)


def draw(store: ClipStore) -> PoseSample:
    """Poses of `CLIPS` clips of a store, always the same."""
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
    return PoseSample(store.skeleton, names, poses, shown, int(store.index["label"].nunique()))


def mean_of(poses: Floats, joints: Sequence[int]) -> Floats:
    """Mean position [n, 3] of those of the joints that are shown."""
    return shown_mean(list(np.moveaxis(poses[:, joints], 1, 0)))


def shown_mean(vectors: Sequence[Floats]) -> Floats:
    """Mean of vectors [n, 3], without those that are NaN; NaN where all are."""
    stacked = np.stack(vectors)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    return np.asarray(np.where(count > 0, np.where(known, stacked, 0).sum(axis=0) / np.maximum(count, 1), np.nan))


def shown_median(values: Floats) -> Floats:
    """Median over the rows [n, ...] without NaN; NaN if there are none."""
    known = values[~np.isnan(values).reshape(len(values), -1).any(axis=1)]
    return np.asarray(np.median(known, axis=0)) if len(known) else np.full(values.shape[1:], np.nan)


def _median_of_shown(values: Sequence[Floats]) -> Floats:
    """Median over arrays of one shape without NaN; NaN where all are."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked).all(axis=0)
    found = np.full(known.shape, np.nan)
    found[known] = np.nanmedian(stacked[:, known], axis=0)
    return found


def _bend(poses: Floats, limb: NDArray[np.int64]) -> Floats:
    """Vector [n, 3] from the line between the ends of a limb to its middle joint."""
    start, middle, end = (poses[:, joint] for joint in limb)
    along, across = end - start, middle - start
    length = (along**2).sum(axis=1, keepdims=True)
    share = (along * across).sum(axis=1, keepdims=True) / np.where(length > 0, length, 1)
    return np.asarray(across - share * along)


def _distances(poses: Floats) -> tuple[Floats, Floats]:
    """Means and standard deviations of the distances between the joints of a clip, [K, K], as shares of the largest."""
    distances = np.linalg.norm(poses[:, :, None] - poses[:, None], axis=-1)
    mean = distances.mean(axis=0)
    largest = max(float(np.nanmax(mean)), 1e-9)
    return np.asarray(mean / largest), np.asarray(distances.std(axis=0) / largest)
