"""What a recording must be to become a clip, and what is tidied on the way (docs/checks.md).

Each check has a policy in the recipe: reject the recording, warn, or repair it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glt.data.checks import bodies, faults, repairs
from glt.data.recording import Recording, Rejection
from glt.recipe import DataConfig

VERSION = 2  # raise it when the same recording gives another clip, so that stored clips are made anew

__all__ = ["VERSION", "accept"]


def accept(recording: Recording, data: DataConfig) -> Recording:
    """The recording as a clip: frames [T, persons, K, 3], the most active person first.

    A body whose joints all lie in the origin is absent. Frames without anybody are cut off at both ends and kept, as
    absence, in between. Absent persons are zeros.

    Raises:
        Rejection: wrong joints, no body at all, or a check whose policy is `reject`.
    """
    looked = _Checked(recording, data)
    looked.shape()
    looked.values()
    looked.tracks()
    looked.motion()
    return looked.clip()


class _Checked:
    """A recording on its way through the checks."""

    def __init__(self, recording: Recording, data: DataConfig) -> None:
        self.recording, self.data, self.limits = recording, data, data.checks
        self.frames, self.present, self.skeleton = recording.frames, recording.present, recording.skeleton
        self.confidence = recording.confidence
        self.warnings: list[str] = list(recording.warnings)
        self.start = 0

    def shape(self) -> None:
        """The layout's joints, and somebody there."""
        if not self.present.any():
            raise self._rejection("empty", "no body in any frame" if len(self.frames) else "no frames")
        joints, dimensions = self.frames.shape[2:]
        if (joints, dimensions) != (len(self.skeleton.joints), self.skeleton.dimensions):
            expected = f"layout {self.skeleton.name} has {len(self.skeleton.joints)} of {self.skeleton.dimensions}"
            raise Rejection("joints", f"{joints} joints of {dimensions} coordinates, {expected}")
        self.present = self.present & (self.frames != 0).any(axis=(2, 3))
        if not self.present.any():
            raise self._rejection("empty", "no body in any frame")
        self.frames = np.where(self.present[:, :, None, None], self.frames, np.float32(0))

    def values(self) -> None:
        """Numbers, in the room, that the estimator believes in."""
        wrong = faults.not_finite(self.frames, self.present)
        if wrong.any():
            good = self.present[:, :, None] & ~wrong
            hopeless = (wrong.any(axis=0) & ~good.any(axis=0)).any()
            frames = int(wrong.any(axis=(1, 2)).sum())
            if hopeless or self.limits.finite == "reject":
                why = f"NaN or infinite coordinates in {frames} of {len(wrong)} frames"
                raise self._rejection("finite", why + (", of a joint in all of them" if hopeless else ""), wrong)
            self._interpolate("finite", wrong, "NaN or infinite")
        wrong = faults.far(self.frames, self.present, self.limits.farthest)
        if wrong.any():
            worst = np.abs(self.frames).max()
            self._say("range", self.limits.range, f"a coordinate of {worst:.4g}: damaged, or not in metres", wrong)
        if self.confidence is not None:
            wrong = (self.confidence < self.limits.least_confidence) & self.present[:, :, None]
            if wrong.any() and self.limits.confidence == "repair":
                self._interpolate("confidence", wrong, f"below {self.limits.least_confidence:g} in confidence")
            elif wrong.any():
                count = int(wrong.sum())
                self._say("confidence", self.limits.confidence, f"{count} points below the least confidence", wrong)

    def tracks(self) -> None:
        """Who is who: lost persons found again, ghosts, the persons that are kept, and whether they changed places."""
        if self.present.shape[1] > 1 and self.limits.lost != "ignore":
            limits = self.limits.lost_seconds, self.limits.lost_metres
            pairs = bodies.handovers(self.frames, self.present, self.skeleton, *limits)
            if pairs:
                told = f"lost: {len(pairs)} times a body ends and another begins close by"
                if self.limits.lost == "repair":
                    self.frames, self.present = bodies.joined(self.frames, self.present, pairs)
                    told += ", joined to one person"
                self.warnings.append(told)
        kept, told_of = bodies.chosen(self.frames, self.present, self.data.persons, self.data.bodies == "first")
        self.warnings += told_of
        self.frames, self.present = self.frames[:, kept], self.present[:, kept]
        found = faults.swaps(self.frames, self.present, self.skeleton, self.limits.swap_metres)
        if found:
            where = np.zeros(self.frames.shape[:3], bool)
            for frame, a, b in found:
                where[frame, [a, b]] = True
            if self.limits.swapped == "repair":
                self.frames, self.present = repairs.unswapped(self.frames, self.present, found)
                self.warnings.append(f"swapped: {len(found)} changes of places taken back")
            else:
                self._say("swapped", self.limits.swapped, f"two persons change places {len(found)} times", where)

    def motion(self) -> None:
        """How the persons that are kept move, in the frames that show somebody."""
        seen = np.flatnonzero(self.present.any(axis=1))
        first, last = int(seen[0]), int(seen[-1]) + 1
        cut = len(self.frames) - (last - first)
        self.frames, self.present, self.start = self.frames[first:last], self.present[first:last], first
        if cut:
            self.warnings.append(f"ends: {cut} frames without anybody cut off")
        limits = self.limits
        wrong, said = faults.bones(self.frames, self.present, self.skeleton, limits.longest_bone, limits.bone_spread)
        if wrong.any():
            self._say("bone-length", limits.bone_length, said, wrong)
        wrong = faults.jumps(self.frames, self.present, self.skeleton, limits.fastest)
        if wrong.any():
            if limits.speed == "repair":
                self._interpolate("speed", wrong, f"faster than {limits.fastest:g} m/s there and back")
            else:
                joints = self._joints(wrong)
                self._say("speed", limits.speed, f"faster than {limits.fastest:g} m/s there and back: {joints}", wrong)
        again = faults.repeated(self.frames, self.present)
        if again.sum() > limits.repeated_share * len(again):
            told = f"{int(again.sum())} of {len(again)} frames repeat the one before"
            if limits.repeated == "repair":
                self.frames, self.present = self.frames[~again], self.present[~again]
                self.warnings.append(f"repeated: {told}, dropped")
            else:
                self._say("repeated", limits.repeated, told, again[:, None, None] & self.present[:, :, None])
        wrong = faults.frozen(self.frames, self.present, self.skeleton, limits.frozen_seconds)
        if wrong.any():
            told = f"no movement at all for {limits.frozen_seconds:g} s: {self._joints(wrong)}"
            self._say("frozen", limits.frozen, told, wrong)
        if len(self.frames) < limits.least_frames:
            told = f"{len(self.frames)} frames, fewer than {limits.least_frames}"
            self._say("short", limits.short, told, np.zeros(self.frames.shape[:3], bool))

    def clip(self) -> Recording:
        """What came through, with a slot for every person."""
        length, kept, joints, dimensions = self.frames.shape
        clip = np.zeros((length, self.data.persons, joints, dimensions), np.float32)
        there = np.zeros((length, self.data.persons), bool)
        there[:, :kept], clip[:, :kept] = self.present, self.frames
        clip[~there] = 0
        return replace(self.recording, frames=clip, present=there, warnings=tuple(self.warnings), confidence=None)

    def _interpolate(self, check: str, where: NDArray[np.bool_], what: str) -> None:
        self.frames = repairs.interpolated(self.frames, self.present, where)
        self.warnings.append(f"{check}: {int(where.sum())} points {what} interpolated")

    def _say(self, check: str, policy: str, what: str, where: NDArray[np.bool_]) -> None:
        if policy == "reject":
            raise self._rejection(check, what, where)
        if policy != "ignore":
            self.warnings.append(f"{check}: {what}")

    def _rejection(self, check: str, why: str, where: NDArray[np.bool_] | None = None) -> Rejection:
        state = replace(self.recording, frames=self.frames, present=self.present, confidence=None)
        return Rejection(check, why, recording=state, where=where)

    def _joints(self, where: NDArray[np.bool_]) -> str:
        """Names of the joints concerned, a few of them."""
        number = np.flatnonzero(where.any(axis=(0, 1)))
        names = ", ".join(self.skeleton.joints[joint] for joint in number[:3])
        return names if len(number) <= 3 else f"{names} and {len(number) - 3} more joints"
