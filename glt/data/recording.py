"""What a reader makes of one file, or why it makes nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton


@dataclass(frozen=True)
class Recording:
    """One recording as a reader gives it.

    Attributes:
        name: the recording's own name, unique in a data set; it does not depend on the folder it lies in.
        frames: float32 [T, P', K, 3] in metres, y up; P' is the number of bodies in the file.
        present: bool [T, P'].
        skeleton: what the K joints are.
        label: class name, None if nobody said.
        subject, camera, setup, replication: what the data set numbers, None where it does not.
        splits: names of the data set's own splits that list it, such as ("xsub_train", "xview_val").
        confidence: float32 [T, P', K] in 0 to 1, of a pose estimator; None if the sensor gives none.
        lost: joints of the file that the layout, another one than its own, has no place for.
        warnings: what a person should know although the recording is taken.
    """

    name: str
    frames: NDArray[np.float32]
    present: NDArray[np.bool_]
    skeleton: Skeleton
    label: str | None = None
    subject: int | None = None
    camera: int | None = None
    setup: int | None = None
    replication: int | None = None
    splits: tuple[str, ...] = ()
    confidence: NDArray[np.float32] | None = None
    lost: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Rejection(Exception):
    """A recording that is not taken.

    Attributes:
        check: the check it failed, one word; it groups rejections in the report.
        reason: what is wrong, for a person.
        name: of the recording, where a file holds several.
        recording: what was read, where reading was not what failed; the data report draws it.
        where: bool [T, P', K], the points of `recording` that failed.
    """

    def __init__(
        self,
        check: str,
        reason: str,
        *,
        name: str = "",
        recording: Recording | None = None,
        where: NDArray[np.bool_] | None = None,
    ) -> None:
        """See the attributes."""
        super().__init__(f"{check}: {reason}")
        self.check = check
        self.reason = reason
        self.name = name
        self.recording = recording
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        """All of it travels between processes."""
        return _rejection, (self.check, self.reason, self.name, self.recording, self.where)


def _rejection(
    check: str, reason: str, name: str, recording: Recording | None, where: NDArray[np.bool_] | None
) -> Rejection:
    return Rejection(check, reason, name=name, recording=recording, where=where)
