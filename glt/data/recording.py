"""A parsed recording, or the reason it was rejected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glt import text
from glt.data.coordinates import AS_READ, Coordinates
from glt.data.layouts import Skeleton


@dataclass(frozen=True)
class Recording:
    """A recording as a reader returns it.

    Attributes:
        name: the recording's own name, unique in a data set; it does not depend on the folder of its file.
        frames: float32 [T, P', K, 3] in metres, y up; P' is the number of bodies in the file.
        present: bool [T, P'].
        skeleton: layout of the K joints.
        label: class name, None if unlabelled.
        subject, camera, setup, replication: numbers that the data set assigns, None if it does not.
        splits: names of the data set's own splits that list it, such as ("xsub_train", "xview_val").
        confidence: float32 [T, P', K] in 0 to 1, of a pose estimator; None if there is none.
        lost: joints of the file that are not in the layout to which it was mapped.
        coordinates: of the file, before it was read.
        warnings: of the reader and the checks, for a person; the recording is accepted all the same.
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
    coordinates: Coordinates = AS_READ
    warnings: tuple[str, ...] = ()


class Rejection(Exception):
    """The check that rejected a recording, and the reason.

    Attributes:
        check: name of the check that it failed, one word; it groups rejections in the report.
        reason: the fault, for people: one line without control characters.
        name: of the recording, if a file holds several.
        recording: what was read, if it could be; the data report draws it.
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
        self.check = check
        self.reason = text.printable(" ".join(reason.split()))  # may quote the file
        self.name = text.clean(name)
        super().__init__(f"{check}: {self.reason}")
        self.recording = recording
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all attributes, so that a rejection can be sent between processes."""
        return _rejection, (self.check, self.reason, self.name, self.recording, self.where)


def _rejection(
    check: str, reason: str, name: str, recording: Recording | None, where: NDArray[np.bool_] | None
) -> Rejection:
    return Rejection(check, reason, name=name, recording=recording, where=where)
