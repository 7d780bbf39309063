"""Resamples clips to another frame rate, so that sets recorded at different rates can be used together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from glt.data import limits
from glt.data.recording import Recording, Rejection


def to_rate(clip: Recording, rate: float) -> Recording:
    """Resample a clip to `rate` frames a second, linearly in time; first frame and duration are kept.

    A person is present in a new frame only if present in both frames around it.

    Raises:
        Rejection: the clip would be longer than `limits` allow, or show nobody.
    """
    own = clip.skeleton.rate
    if own == rate:
        return clip
    length = 1 + int((len(clip.frames) - 1) * rate / own + 1e-9)
    if reason := limits.too_large((length, *clip.frames.shape[1:3])):
        raise Rejection("rate", f"at {rate:g} instead of {own:g} frames a second: {reason}")
    at = np.minimum(np.arange(length) * (own / rate), len(clip.frames) - 1)
    before = np.floor(at + 1e-9).astype(np.int64)
    after = np.minimum(before + (at - before > 1e-9), len(clip.frames) - 1)
    weight = np.clip(at - before, 0, 1)[:, None, None, None]  # T', 1, 1, 1
    present = clip.present[before] & clip.present[after]
    frames = ((1 - weight) * clip.frames[before] + weight * clip.frames[after]).astype(np.float32)
    frames[~present] = 0
    if not present.any():
        raise Rejection("rate", f"nobody is left at {rate:g} instead of {own:g} frames a second")
    return replace(clip, frames=frames, present=present, skeleton=replace(clip.skeleton, rate=rate))
