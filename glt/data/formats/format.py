"""What a reader says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glt.data.layouts import Skeleton
from glt.data.recording import Recording


@dataclass(frozen=True)
class Format:
    """A file format of recordings.

    Attributes:
        version: of the reader; raise it when the same bytes give another recording, so that stored clips are made anew.
        skeleton: layout of every recording.
        suffix: how the name of a recording's file ends, in lower case; other files are none of ours.
        read: (file name, bytes) -> Recording; raises Rejection for whatever it cannot read.
    """

    version: int
    skeleton: Skeleton
    suffix: str
    read: Callable[[str, bytes], Recording]
