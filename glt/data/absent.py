"""Absent joints: joints without a good point in a clip. They are placed at the centre joint, and recognised there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def place_absent(frames: Floats, absent: Bools, skeleton: Skeleton) -> Floats:
    """Place the joints `absent` [P, K] of frames [T, P, K, 3] at their person's centre joint.

    An absent centre joint is placed at the mean of its neighbours or, if these are absent too, of all present joints.
    """
    placed, centre = frames.copy(), skeleton.centre
    for person in np.flatnonzero(absent.any(axis=1)):
        lost = absent[person]
        if lost[centre]:
            near = [joint for bone in skeleton.bones if centre in bone for joint in bone if not lost[joint]]
            around = near or np.flatnonzero(~lost).tolist()
            if not around:
                continue
            placed[:, person, centre] = placed[:, person, around].mean(axis=1)
        placed[:, person, lost] = placed[:, person, centre : centre + 1]
    return placed


def absent_joints(frames: Floats, present: Bools, skeleton: Skeleton) -> Bools:
    """Joints [P, K] that coincide with the centre joint in every frame [T, P, K, 3] that shows the person.

    The centre joint itself is never among them, nor is any joint of an absent person.
    """
    apart = (frames != frames[:, :, [skeleton.centre]]).any(axis=3) & present[:, :, None]
    absent: Bools = np.asarray(~apart.any(axis=0)) & np.asarray(present.any(axis=0))[:, None]
    absent[:, skeleton.centre] = False
    return absent


def shown_parents(absent: Bools, skeleton: Skeleton) -> NDArray[np.int64]:
    """For each joint [P, K] the next joint towards the centre that is not absent; the centre is its own."""
    parents = np.tile(np.array(skeleton.parents), (len(absent), 1))
    persons = np.arange(len(absent))[:, None]
    for _ in skeleton.joints:
        lost = absent[persons, parents]
        if not lost.any():
            break
        parents = np.where(lost, np.array(skeleton.parents)[parents], parents)
    return parents
