"""What a reader says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from glt.data.layouts import Skeleton
from glt.data.recording import Recording, Rejection

Read = Callable[[str, bytes, Mapping[str, bytes]], Iterable[Recording | Rejection]]


@dataclass(frozen=True)
class Format:
    """A file format of recordings.

    Attributes:
        version: of the reader; raise it when the same bytes give another recording, so that stored clips are made anew.
        suffixes: how the names of files with recordings end, in lower case; other files are none of ours.
        read: (file name, content, sidecars) -> its recordings; a Rejection among them is one recording that is not
            taken, a Rejection raised is the whole file. It raises nothing else. `one` makes it of a simple reader.
        skeleton: layout of every recording; None where the data set brings its own.
        sidecars: names of files that say something of all recordings below their folder. `read` is given those that
            are there, by file name; of several folders above the recording the nearest counts.
    """

    version: int
    suffixes: tuple[str, ...]
    read: Read
    skeleton: Skeleton | None = None
    sidecars: tuple[str, ...] = ()


def one(read: Callable[[str, bytes], Recording]) -> Read:
    """The `read` of a format whose files hold one recording each: (file name, content) -> Recording."""

    def read_all(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording]:
        yield read(name, content)

    return read_all
