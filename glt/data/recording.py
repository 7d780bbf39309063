"""What a reader makes of one file, or why it makes nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """One recording as a reader gives it.

    Attributes:
        name: the recording's own name, unique in a data set; it does not depend on the folder it lies in.
        frames: float32 [T, P', K, 3] in metres, y up; P' is the number of bodies in the file.
        present: bool [T, P'].
        label: class name, None if nobody said.
        subject, camera, setup, replication: what the data set numbers, None where it does not.
        warnings: what a person should know although the recording is taken.
    """

    name: str
    frames: NDArray[np.float32]
    present: NDArray[np.bool_]
    label: str | None = None
    subject: int | None = None
    camera: int | None = None
    setup: int | None = None
    replication: int | None = None
    warnings: tuple[str, ...] = ()


class Rejection(Exception):
    """A file that is not taken: the check it failed (one word) and the reason (for a person)."""

    def __init__(self, check: str, reason: str) -> None:
        """`check` groups rejections in the report; `reason` says what is wrong with this file."""
        super().__init__(f"{check}: {reason}")
        self.check = check
        self.reason = reason
