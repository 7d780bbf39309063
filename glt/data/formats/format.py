"""The description of a file format: its reader and the names of its files."""

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
        version: of the reader; raise it when the same bytes give another recording: stored clips are then built again.
        suffixes: endings of the names of files with recordings, in lower case; other files are ignored.
        read: (file name, content, sidecars) -> its recordings. It yields a Rejection for a single rejected recording,
            raises a Rejection for a whole file, and raises nothing else. `one` builds it from a simple reader.
        skeleton: layout of every recording; None if the data set brings its own.
        read_unnamed: like `read`, for a file whose name or label `read` rejects: gives recordings without subject and
            label, for prediction. None if `read` accepts any name.
        sidecars: names of files that describe all recordings below their folder. `read` gets the contents of those
            that exist, by file name; of several in the folders above a recording, the nearest.
    """

    version: int
    suffixes: tuple[str, ...]
    read: Read
    skeleton: Skeleton | None = None
    sidecars: tuple[str, ...] = ()
    read_unnamed: Read | None = None

    def read_any(self, name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording | Rejection]:
        """Like `read`, but the file needs neither name nor label of the format."""
        if self.read_unnamed is None:
            return self.read(name, content, sidecars)
        try:
            return list(self.read(name, content, sidecars))
        except Rejection as rejection:
            if rejection.check not in ("name", "label"):
                raise
            return self.read_unnamed(name, content, sidecars)


def one_per_file(read: Callable[[str, bytes], Recording]) -> Read:
    """The `read` of a format whose files hold one recording each: (file name, content) -> Recording."""

    def read_all(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording]:
        yield read(name, content)

    return read_all
