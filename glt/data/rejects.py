"""Rejected recordings, kept with the place of the fault so that a person can see what was wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton
from glt.data.recording import Rejection

FRAMES = 200  # kept of a recording, around the fault


@dataclass(frozen=True)
class RejectedExample:
    """What was read of a recording that was not taken.

    Attributes:
        source: its file.
        check: that it failed.
        reason: for a person.
        frames: float32 [T, P', K, n] as read, NaN and all.
        present: bool [T, P'].
        where: bool [T, P', K], the points that failed; none if the fault has no place.
        skeleton: the layout.
        start: the frame of the recording that `frames` starts with.
    """

    source: str
    check: str
    reason: str
    frames: NDArray[np.float32]
    present: NDArray[np.bool_]
    where: NDArray[np.bool_]
    skeleton: Skeleton
    start: int


def write_example(folder: Path, number: int, rejection: Rejection, source: str) -> None:
    """Keep what was read of a rejected recording as ``<number>.npz`` in `folder`, which is made."""
    recording = rejection.recording
    if recording is None:
        return
    folder.mkdir(exist_ok=True)
    where = np.zeros(recording.frames.shape[:3], bool) if rejection.where is None else rejection.where
    faulty = np.flatnonzero(where.any(axis=(1, 2)))
    middle = int(faulty[0]) if len(faulty) else 0
    start = max(0, min(middle - FRAMES // 2, len(where) - FRAMES))
    kept = slice(start, start + FRAMES)
    said = {
        **{"source": source, "check": rejection.check, "reason": rejection.reason, "start": start},
        "skeleton": recording.skeleton.to_dict(),
    }
    np.savez_compressed(
        folder / f"{number:06}.npz",
        frames=recording.frames[kept],
        present=recording.present[kept],
        where=where[kept],
        said=np.array(json.dumps(said)),
    )


def read_examples(folder: Path) -> list[RejectedExample]:
    """The examples in a folder, in the order in which they were written; none if there is no folder."""
    examples = []
    for file in sorted(Path(folder).glob("*.npz")):
        with np.load(file, allow_pickle=False) as kept:
            said = json.loads(str(kept["said"]))
            skeleton = Skeleton.from_dict(said.pop("skeleton"))
            examples.append(
                RejectedExample(
                    frames=kept["frames"], present=kept["present"], where=kept["where"], skeleton=skeleton, **said
                )
            )
    return examples
