"""Examples of rejected recordings, stored with the faulty points so that a person can see what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glt import artifact
from glt.data.layouts import Skeleton
from glt.data.recording import Rejection

FRAMES = 200  # stored of a recording, around the fault


@dataclass(frozen=True)
class RejectedExample:
    """A rejected recording, as it was read.

    Attributes:
        source: its file.
        check: the check that it failed.
        reason: what is wrong, for a person.
        frames: float32 [T, P', K, n] as read, including NaN.
        present: bool [T, P'].
        where: bool [T, P', K], the points that failed; all False if the fault concerns no particular points.
        skeleton: layout of the joints.
        start: index, in the recording, of the first of these frames.
    """

    source: str
    check: str
    reason: str
    frames: NDArray[np.float32]
    present: NDArray[np.bool_]
    where: NDArray[np.bool_]
    skeleton: Skeleton
    start: int


def write_example(folder: Path, index: int, rejection: Rejection, source: str, reason: str = "") -> None:
    """Write what was read of a rejected recording to ``<index>.npz`` in `folder`, which is created.

    A recording that cannot be drawn is left out: its arrays do not fit its layout.
    """
    recording = rejection.recording
    if recording is None or recording.frames.ndim != 4 or recording.present.shape != recording.frames.shape[:2]:
        return
    if rejection.where is not None and rejection.where.shape != recording.frames.shape[:3]:
        return
    folder.mkdir(exist_ok=True)
    where = np.zeros(recording.frames.shape[:3], bool) if rejection.where is None else rejection.where
    faulty = np.flatnonzero(where.any(axis=(1, 2)))
    middle = int(faulty[0]) if len(faulty) else 0
    start = max(0, min(middle - FRAMES // 2, len(where) - FRAMES))
    window = slice(start, start + FRAMES)
    description = {
        **{"source": source, "check": rejection.check, "reason": reason or rejection.reason, "start": start},
        "skeleton": recording.skeleton.to_dict(),
    }
    np.savez_compressed(
        folder / f"{index:06}.npz",
        frames=recording.frames[window],
        present=recording.present[window],
        where=where[window],
        said=np.array(json.dumps(description)),
    )


def read_examples(folder: Path) -> list[RejectedExample]:
    """Read the examples in a folder, in the order in which they were written; none if there is no folder."""
    examples = []
    for file in sorted(Path(folder).glob("*.npz")):
        with artifact.reading(file), np.load(file, allow_pickle=False) as arrays:
            description = json.loads(str(arrays["said"]))
            skeleton = Skeleton.from_dict(description.pop("skeleton"))
            examples.append(
                RejectedExample(
                    frames=arrays["frames"],
                    present=arrays["present"],
                    where=arrays["where"],
                    skeleton=skeleton,
                    **description,
                )
            )
    return examples
