"""Checks a recording, repairs it as the recipe says, and turns it into a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glt.data.absent import place_absent
from glt.data.checks import bodies, faults, repairs
from glt.data.recording import Recording, Rejection
from glt.recipe import DataConfig

VERSION = 4  # raise it when the same recording gives another clip: stored clips are then built again


def accept(recording: Recording, data: DataConfig) -> Recording:
    """The recording as a clip: frames [T, persons, K, 3], the most active person first.

    A body without a finite coordinate other than zero is absent, and all zeros. Frames without anybody are cut off at
    both ends; in between they stay.

    Raises:
        Rejection: wrong joints, no body at all, or a check whose policy is ``reject``.
    """
    checker = _Checker(recording, data)
    checker.check_shape()
    checker.check_values()
    checker.check_tracks()
    checker.check_motion()
    return checker.clip()


class _Checker:
    """A recording on its way through the checks, each of which may change it.

    Attributes:
        frames: float32 [T, P, K, 3].
        present: bool [T, P].
        confidence: float32 [T, P', K] of the bodies in the file, or None.
        made: bool [T, P, K], points that a repair has interpolated.
        unseen: bool [T, P, K], bad points of joints that have no good point to interpolate from.
        warnings: of the reader and of the checks so far.
    """

    def __init__(self, recording: Recording, data: DataConfig) -> None:
        self.recording, self.data, self.limits = recording, data, data.checks
        self.frames, self.present, self.skeleton = recording.frames, recording.present, recording.skeleton
        self.confidence = recording.confidence
        self.made, self.unseen = np.zeros(self.frames.shape[:3], bool), np.zeros(self.frames.shape[:3], bool)
        self.warnings: list[str] = list(recording.warnings)

    def check_shape(self) -> None:
        """The joints are those of the layout, and somebody is present."""
        if not self.present.any():
            raise self._rejection("empty", "no body in any frame" if len(self.frames) else "no frames")
        joints, dimensions = self.frames.shape[2:]
        if (joints, dimensions) != (len(self.skeleton.joints), self.skeleton.dimensions):
            expected = f"layout {self.skeleton.name} has {len(self.skeleton.joints)} of {self.skeleton.dimensions}"
            raise Rejection("joints", f"{joints} joints of {dimensions} coordinates, {expected}")
        self.present = self.present & ((self.frames != 0) & np.isfinite(self.frames)).any(axis=(2, 3))
        if not self.present.any():
            raise self._rejection("empty", "no body in any frame")
        self.frames = np.where(self.present[:, :, None, None], self.frames, np.float32(0))

    def check_values(self) -> None:
        """Coordinates are trusted by the pose estimator, finite, not missing (zeros), and within range.

        A joint without a finite coordinate in the whole clip was not tracked: it is absent.
        """
        unsure = np.zeros(self.frames.shape[:3], bool)
        if self.confidence is not None:
            where = (self.confidence < self.limits.least_confidence) & self.present[:, :, None]
            if self.limits.confidence == "repair":
                unsure = where
            elif where.any():
                count = int(where.sum())
                self._report("confidence", self.limits.confidence, f"{count} points below the least confidence", where)
        where = faults.not_finite(self.frames, self.present) & ~unsure
        if where.any():
            tracked = (self.present[:, :, None] & np.isfinite(self.frames).all(axis=3)).any(axis=0)
            frames = int((where & tracked).any(axis=(1, 2)).sum())
            if frames and self.limits.finite == "reject":
                reason = f"NaN or infinite coordinates in {frames} of {len(where)} frames"
                raise self._rejection("finite", reason, where & tracked)
            self._interpolate("finite", where, "NaN or infinite", unsure)
        if unsure.any():
            self._interpolate("confidence", unsure, f"below {self.limits.least_confidence:g} in confidence")
        where = faults.at_origin(self.frames, self.present, self._hidden, self.skeleton, self.limits.longest_bone)
        if where.any() and self.limits.missing == "repair":
            self._interpolate("missing", where, "at the origin, far from the body,")
        elif where.any():
            self._report("missing", self.limits.missing, f"{int(where.sum())} points at the origin", where)
        where = faults.out_of_range(self.frames, self.present, self.limits.farthest)
        if where.any():
            worst = f"a coordinate of {np.abs(self.frames).max():.4g}"
            expected = "metres" if self.skeleton.unit == "m" else f"{self.skeleton.unit}s"
            reason = f"{worst}: damaged, or not in {expected}; tables name another `unit` in skeleton.yaml"
            self._report("range", self.limits.range, reason, where)

    def check_tracks(self) -> None:
        """Join the tracks of lost persons, drop ghosts and surplus persons, and undo swaps of two persons."""
        if self.present.shape[1] > 1 and self.limits.lost != "ignore":
            limits = self.limits.lost_seconds, self.limits.lost_metres
            pairs = bodies.handovers(self.frames, self.present, self.skeleton, *limits)
            if pairs:
                message = f"lost: {len(pairs)} times a body ends and another begins close by"
                if self.limits.lost == "repair":
                    self.made, self.unseen = (
                        bodies.join(mask, self.present, pairs)[0] for mask in (self.made, self.unseen)
                    )
                    self.frames, self.present = bodies.join(self.frames, self.present, pairs)
                    message += ", joined to one person"
                self.warnings.append(message)
        persons, warnings = bodies.select(self.frames, self.present, self.data.persons, self.data.bodies == "first")
        self.warnings += warnings
        self.frames, self.present = self.frames[:, persons], self.present[:, persons]
        self.made, self.unseen = self.made[:, persons], self.unseen[:, persons]
        self._settle_unseen()
        swaps = faults.swaps(self.frames, self.present, self.skeleton, self.limits.swap_metres)
        if swaps:
            where = np.zeros(self.frames.shape[:3], bool)
            for frame, a, b in swaps:
                where[frame, [a, b]] = True
            if self.limits.swapped == "repair":
                self.made, self.unseen = (
                    repairs.unswap(mask, self.present, swaps)[0] for mask in (self.made, self.unseen)
                )
                self.frames, self.present = repairs.unswap(self.frames, self.present, swaps)
                self.warnings.append(f"swapped: {len(swaps)} changes of places taken back")
            else:
                self._report("swapped", self.limits.swapped, f"two persons change places {len(swaps)} times", where)

    def check_motion(self) -> None:
        """Cut off the ends without anybody; then bones, speed, repeated and frozen frames, and length are plausible."""
        occupied = np.flatnonzero(self.present.any(axis=1))
        first, last = int(occupied[0]), int(occupied[-1]) + 1
        cut = len(self.frames) - (last - first)
        self._select_frames(slice(first, last))
        if cut:
            self.warnings.append(f"ends: {cut} frames without anybody cut off")
        limits = self.limits
        length = len(self.present)
        empty = length - int(self.present.any(axis=1).sum())
        if empty > limits.gap_share * length:
            reason = f"nobody in {empty} of {length} frames between the first and the last person"
            self._report("gaps", limits.gaps, reason, np.zeros(self.frames.shape[:3], bool))
        where, reason = faults.bones(
            self.frames, self.present, self._hidden, self.skeleton, limits.longest_bone, limits.bone_spread
        )
        if where.any():
            self._report("bone-length", limits.bone_length, reason, where)
        where = faults.jumps(self.frames, self.present, self._hidden, self.skeleton, limits.fastest)
        if where.any():
            reason = f"faster than {limits.fastest:g} m/s there and back"
            if limits.speed == "repair":
                self._interpolate("speed", where, reason)
            else:
                self._report("speed", limits.speed, f"{reason}: {self._joint_names(where)}", where)
        self._check_repeated()
        where = faults.frozen(self.frames, self.present, self._hidden, self.skeleton, limits.frozen_seconds)
        if where.any():
            reason = f"no movement at all for {limits.frozen_seconds:g} s: {self._joint_names(where)}"
            self._report("frozen", limits.frozen, reason, where)
        if len(self.frames) < limits.least_frames:
            reason = f"{len(self.frames)} frames, fewer than {limits.least_frames}"
            self._report("short", limits.short, reason, np.zeros(self.frames.shape[:3], bool))

    def _check_repeated(self) -> None:
        """Not too many frames repeat the one before."""
        repeats = faults.repeated(self.frames, self.present, self._hidden)
        if repeats.sum() <= self.limits.repeated_share * len(repeats):
            return
        reason = f"{int(repeats.sum())} of {len(repeats)} frames repeat the one before"
        if self.limits.repeated == "repair":
            self._select_frames(~repeats)
            self.warnings.append(f"repeated: {reason}, dropped")
        else:
            where = repeats[:, None, None] & self.present[:, :, None]
            self._report("repeated", self.limits.repeated, reason, where)

    def clip(self) -> Recording:
        """The checked recording with a slot for each of `data.persons` persons."""
        length, persons, joints, dimensions = self.frames.shape
        frames = np.zeros((length, self.data.persons, joints, dimensions), np.float32)
        present = np.zeros((length, self.data.persons), bool)
        present[:, :persons], frames[:, :persons] = self.present, self.frames
        frames[~present] = 0
        return replace(self.recording, frames=frames, present=present, warnings=tuple(self.warnings), confidence=None)

    @property
    def _hidden(self) -> NDArray[np.bool_]:
        """Points [T, P, K] that were not recorded."""
        return np.asarray(self.made | self.unseen)

    def _select_frames(self, which: slice | NDArray[np.bool_]) -> None:
        self.frames, self.present = self.frames[which], self.present[which]
        self.made, self.unseen = self.made[which], self.unseen[which]

    def _interpolate(
        self, check: str, where: NDArray[np.bool_], what: str, other: NDArray[np.bool_] | None = None
    ) -> None:
        """Interpolate the points at `where`; those of a joint without a good point become `unseen`.

        Points at `other` are no good points either.
        """
        bad = where if other is None else where | other
        good = self.present[:, :, None] & ~bad & ~self.unseen
        recoverable = where & good.any(axis=0)
        repaired = repairs.interpolate(self.frames, self.present, bad)
        self.frames = np.where(recoverable[..., None], repaired, self.frames)
        self.made |= recoverable
        if count := int(recoverable.sum()):
            self.warnings.append(f"{check}: {count} points {what} interpolated")
        if (where & ~recoverable).any():
            self.unseen |= where & ~recoverable
            absent = self._absent()
            nobody = absent.all(axis=1)
            if nobody.any():
                self.present = np.asarray(self.present & ~nobody)
                self.frames = np.where(self.present[:, :, None, None], self.frames, np.float32(0))
                self.unseen &= self.present[:, :, None]
                self.warnings.append(f"{check}: {int(nobody.sum())} bodies without a good point left out")
            if not self.present.any():
                raise self._rejection(check, f"all points {what}", where)
            self.frames = place_absent(self.frames, absent, self.skeleton)
            self.frames[~self.present] = 0

    def _absent(self) -> NDArray[np.bool_]:
        """Joints [P, K] of persons who are present, without a good point."""
        good = (self.present[:, :, None] & ~self.unseen).any(axis=0)
        return np.asarray(self.present.any(axis=0))[:, None] & ~np.asarray(good)

    def _settle_unseen(self) -> None:
        """Interpolate points that joined tracks made recoverable; joints still without a good point are absent."""
        if not self.unseen.any():
            return
        absent = self._absent()
        shown = self.unseen & ~absent
        if shown.any():
            self.frames = repairs.interpolate(self.frames, self.present, shown)
            self.made |= shown
            self.unseen &= ~shown
        if absent.any():
            names = self._joint_names(self.unseen & absent)
            self.warnings.append(f"absent: {names} without a good point, placed at the centre joint")
            self.frames = place_absent(self.frames, absent, self.skeleton)
            self.frames[~self.present] = 0

    def _report(self, check: str, policy: str, reason: str, where: NDArray[np.bool_]) -> None:
        """Reject, warn or ignore, as the policy says."""
        if policy == "reject":
            raise self._rejection(check, reason, where)
        if policy != "ignore":
            self.warnings.append(f"{check}: {reason}")

    def _rejection(self, check: str, reason: str, where: NDArray[np.bool_] | None = None) -> Rejection:
        """A rejection with the recording as it is now; `where` [T, P, K] marks the points that failed."""
        state = replace(self.recording, frames=self.frames, present=self.present, confidence=None)
        return Rejection(check, reason, recording=state, where=where)

    def _joint_names(self, where: NDArray[np.bool_]) -> str:
        """Names of up to three of the joints concerned."""
        joints = np.flatnonzero(where.any(axis=(0, 1)))
        names = ", ".join(self.skeleton.joints[joint] for joint in joints[:3])
        return names if len(joints) <= 3 else f"{names} and {len(joints) - 3} more joints"
