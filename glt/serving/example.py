"""An input example for MLflow: one generated clip, so that no recording leaves the data it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np

from glt.data.layouts import Skeleton

FRAMES = 8


def example_clips(skeleton: Skeleton) -> list[Any]:
    """One clip of one person as nested lists, [1, FRAMES, 1, K, 3] in the layout's unit; the same for every call.

    The joints sway around places that are drawn at random, a metre across and two metres away.
    """
    random = np.random.default_rng(0)
    joints = len(skeleton.joints)
    places = random.uniform(-0.5, 0.5, (joints, 3)) + np.array([0.0, 0.0, 2.0])  # K, 3
    phases = random.uniform(0, 2 * np.pi, (joints, 3))
    time = np.arange(FRAMES)[:, None, None] / FRAMES  # T, 1, 1
    clip = skeleton.metre * (places + 0.1 * np.sin(2 * np.pi * time + phases))
    if skeleton.dimensions == 2:
        clip[..., 2] = 0.0
    clips: list[Any] = np.round(clip[None, :, None], 3).tolist()
    return clips
