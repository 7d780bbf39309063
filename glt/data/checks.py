"""What a recording must be to become a clip, and what is tidied on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glt.data.recording import Recording, Rejection
from glt.recipe import DataConfig

FARTHEST = 100.0  # metres from the sensor; beyond, the unit is wrong or the numbers are damaged
GHOST = 0.1  # a body seen in fewer frames than this share of the most-seen body's is the sensor's mistake


def accept(recording: Recording, data: DataConfig) -> Recording:
    """The recording as a clip: frames [T, persons, K, 3], the most active person first.

    A body whose joints all lie in the origin is absent. Frames without anybody are cut off at both ends and kept, as
    absence, in between. Absent persons are zeros.

    Raises:
        Rejection: wrong joints, NaN or infinite or impossible coordinates, no body at all.
    """
    frames, present, skeleton, persons = recording.frames, recording.present, recording.skeleton, data.persons
    if not present.any():
        raise Rejection("empty", "no body in any frame" if len(frames) else "no frames")
    joints, dimensions = frames.shape[2:]
    if (joints, dimensions) != (len(skeleton.joints), skeleton.dimensions):
        expected = f"layout {skeleton.name} has {len(skeleton.joints)} of {skeleton.dimensions}"
        raise Rejection("joints", f"{joints} joints of {dimensions} coordinates, {expected}")
    finite = np.isfinite(frames).all(axis=(1, 2, 3))
    if not finite.all():
        raise Rejection("finite", f"NaN or infinite coordinates in {(~finite).sum()} of {len(frames)} frames")
    if np.abs(frames).max() > FARTHEST:
        raise Rejection("range", f"a coordinate of {np.abs(frames).max():.4g} m: damaged, or not in metres")
    present = present & frames.any(axis=(2, 3))
    if not present.any():
        raise Rejection("empty", "no body in any frame")
    kept, warnings = _most_active(frames, present, persons)
    seen = np.flatnonzero(present[:, kept].any(axis=1))
    first, last = seen[0], seen[-1] + 1
    clip = np.zeros((last - first, persons, joints, dimensions), np.float32)
    there = np.zeros((last - first, persons), bool)
    there[:, : len(kept)] = present[first:last, kept]
    clip[:, : len(kept)] = frames[first:last, kept]
    clip[~there] = 0
    if last - first < len(frames):
        warnings.append(f"{len(frames) - (last - first)} frames without anybody cut off at the ends")
    if last - first == 1:
        warnings.append("one frame: no motion to learn from")
    return replace(recording, frames=clip, present=there, warnings=(*recording.warnings, *warnings))


def _most_active(frames: NDArray[np.float32], present: NDArray[np.bool_], persons: int) -> tuple[list[int], list[str]]:
    """Bodies to keep, the most active first, and what to warn of."""
    counts = present.sum(axis=0)
    real = [int(body) for body in np.flatnonzero(counts >= max(1, GHOST * counts.max()))]
    ranked = sorted(real, key=lambda body: -_activity(frames[present[:, body], body]))
    warnings = []
    ghosts = int((counts > 0).sum()) - len(real)
    if ghosts:
        warnings.append(f"{ghosts} ghost bodies dropped (seen in under {GHOST:.0%} of the frames)")
    if len(ranked) > persons:
        warnings.append(f"{len(ranked)} persons: the {persons} most active kept")
    return ranked[:persons], warnings


def _activity(frames: NDArray[np.float32]) -> float:
    """How much a body [t, K, 3] moves: spread of its joints, times the frames it is seen in, so that a ghost loses."""
    return float(frames.std(axis=0, dtype=np.float64).sum()) * len(frames)


VERSION = 1
