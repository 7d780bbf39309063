"""The clip store: an index over immutable, memory-mapped segments; no time padding, no sentinel values."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from glt import artifact
from glt.data import clip_table, clip_warnings
from glt.data.account import Account
from glt.data.coordinates import Coordinates
from glt.data.layouts import Skeleton, difference
from glt.data.recording import Recording, Rejection
from glt.data.rejects import write_example
from glt.text import clean

REJECTED = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("source", "check", "reason")])

LEFT_OUT = "left_out.parquet"
EXAMPLES = 3  # rejected recordings stored per check and segment, to be drawn
_LONGEST = 5000  # characters of a rejection's text, or of a clip's warnings


class ClipStore:
    """Reads a finished folder of clips.

    Attributes:
        index: one row per clip, sorted by name: the columns of `glt.data.clip_table` and ``segment``, the digest of
            the clip's segment.
        rejected: one row per rejected file: source, check, reason. Check ``repeat`` is a clip that came twice.
        left_out: one row per file that was not read because it is not a recording: source, check, reason.
        account: counts of the files that were seen; None if an older version wrote the folder.
        skeleton: layout of the joints.
        info: the manifest's information on what the folder was made from.
        coordinates: of the files; none if an older version wrote the folder.
        digest: equal for two stores with the same clips under the same names, however they were delivered.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Open the folder at `path`.

        Args:
            path: the artifact's folder.
            verify: compare all files with their hashes; one of several processes is enough.

        Raises:
            GltError: not a finished folder of clips, or a file is missing or changed.
        """
        self.path = Path(path)
        self.info = artifact.open_artifact(self.path, "clips", verify=verify)
        description = artifact.read_json(self.path / "skeleton.json", dict)
        with artifact.reading(self.path / "skeleton.json"):
            self.skeleton = Skeleton.from_dict(description)
        with artifact.reading(self.path / "rejected.parquet"):
            self.rejected = pd.read_parquet(self.path / "rejected.parquet")[REJECTED.names]
        left_out = self.path / LEFT_OUT
        with artifact.reading(left_out):
            self.left_out = pd.read_parquet(left_out) if left_out.exists() else self.rejected.iloc[:0]
        with artifact.reading(self.path / artifact.MANIFEST):
            self.account = Account.from_dict(self.info["account"]) if "account" in self.info else None
        with artifact.reading(self.path / "segments"):
            segments = self.info["segments"]
            clips = [read_clips(self.path / "segments" / segment).assign(segment=segment) for segment in segments]
            index = in_order(pd.concat(clips, ignore_index=True)).drop_duplicates("name", ignore_index=True)
            self.index = index[["name", "segment", *(column for column in clip_table.NAMES if column != "name")]]
        with artifact.reading(self.path / artifact.MANIFEST):
            self.coordinates = [Coordinates.from_dict(one) for one in self.info.get("coordinates", ())]
        pairs = zip(index["name"], index["sha256"], strict=True)
        self.digest = hashlib.sha256(json.dumps(list(pairs)).encode()).hexdigest()
        self._spans = list(zip(index["segment"], index["offset"], index["length"], strict=True))
        self._segment = functools.lru_cache(maxsize=2)(self._map)  # pages that were read stay in memory with their map

    @property
    def files_rejected(self) -> int:
        """Number of rejected files; in a folder that an older version wrote, repeats count too."""
        return len(self.rejected) if self.account is None else self.account.rejected

    def clip(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read the clip in a row of the index: frames [T, P, K, 3], zeros where a person is absent; present [T, P]."""
        segment, offset, length = self._spans[row]
        frames, present = self._segment(segment)
        return np.array(frames[offset : offset + length]), present[offset : offset + length].copy()

    def present(self, row: int) -> NDArray[np.bool_]:
        """The persons that the clip in a row of the index shows in each frame, [T, P]."""
        segment, offset, length = self._spans[row]
        return self._segment(segment)[1][offset : offset + length].copy()

    def _map(self, segment: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        folder = self.path / "segments" / segment
        with artifact.reading(folder):
            present = np.load(folder / "present.npy", allow_pickle=False)
            return np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False), present


class SegmentWriter:
    """Writes one segment, clip by clip; only the index stays in memory.

    Attributes:
        skeleton: layout of the clips, that of the first clip if none was given; None before the first clip.
        layouts: number of clips of each layout, including clips that were rejected for it.
        lost: joints of the recordings that are not in this layout.
        coordinates: number of clips from files with these coordinates.
        checks: names of the checks that rejected anything.
    """

    def __init__(self, folder: Path, persons: int, skeleton: Skeleton | None = None) -> None:
        """Start a segment in an existing folder; clips have `persons` slots and, if it is given, this layout."""
        self.skeleton = skeleton
        self.layouts: Counter[Skeleton] = Counter()
        self.coordinates: Counter[Coordinates] = Counter()
        self.lost: set[str] = set()
        self.checks: set[str] = set()
        self._folder = folder
        self._length = 0
        self._present: list[NDArray[np.bool_]] = [np.zeros((0, persons), bool)]
        self._examples: Counter[str] = Counter()
        self._clips: list[dict[str, Any]] = []
        self._rejected: list[dict[str, str]] = []
        self._stream: BinaryIO = (folder / "frames.npy").open("wb")

    def __enter__(self) -> SegmentWriter:
        """Complete the files on leaving the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the files, unless the block raised."""
        try:
            if kind is None:
                self._complete()
        finally:
            self._stream.close()

    def add(self, clip: Recording, source: str) -> None:
        """Append a clip with frames [T, persons, K, 3], read from the file `source`.

        Raises:
            Rejection: its layout is not that of the clips before, or the table of clips cannot hold one of its values.
                Nothing was written.
        """
        self.layouts[clip.skeleton] += 1
        if self.skeleton is not None and clip.skeleton != self.skeleton:
            raise Rejection("layout", difference(clip.skeleton, self.skeleton), name=clip.name)
        frames = np.ascontiguousarray(clip.frames, np.float32)
        row = _row(clip, frames, clean(source), self._length)
        if problem := clip_table.problem(row):
            raise Rejection("value", problem, name=clip.name)
        if not self._clips:
            self.skeleton = clip.skeleton
            self._write_header()
        self.lost.update(clip.lost)
        self.coordinates[clip.coordinates] += 1
        self._stream.write(frames.tobytes())
        self._present.append(clip.present)
        self._clips.append(row)
        self._length += len(frames)

    def reject(self, source: str, rejection: Rejection) -> None:
        """Record a rejection; the first `EXAMPLES` recordings per check are stored for the data report."""
        recording = f"{source}#{rejection.name}" if rejection.name not in ("", PurePosixPath(source).stem) else source
        self.checks.add(rejection.check)
        row = {"source": clean(recording), "check": clean(rejection.check), "reason": clean(rejection.reason)}
        self._rejected.append({key: shorten(text) for key, text in row.items()})
        if rejection.recording is not None and self._examples[rejection.check] < EXAMPLES:
            self._examples[rejection.check] += 1
            write_example(self._folder / "rejected", len(self._rejected), rejection, row["source"], row["reason"])

    def _complete(self) -> None:
        self._stream.seek(0)
        self._write_header()
        np.save(self._folder / "present.npy", np.concatenate(self._present))
        pq.write_table(pa.Table.from_pylist(self._clips, clip_table.ARROW), self._folder / "clips.parquet")
        write_rejected(self._folder, self._rejected)

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow, so the header can be overwritten.
        joints, dimensions = (len(self.skeleton.joints), self.skeleton.dimensions) if self.skeleton else (0, 0)
        shape = (self._length, self._present[0].shape[1], joints, dimensions)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)


def problem(clip: Recording, source: str) -> str:
    """The reason why the clip table cannot hold a clip read from the file `source`; empty if it can."""
    return clip_table.problem(_row(clip, clip.frames, clean(source), 0))


def _row(clip: Recording, frames: NDArray[np.float32], source: str, offset: int) -> dict[str, Any]:
    """The clip's row of the table."""
    return {
        "name": clip.name,
        "offset": offset,
        "length": len(frames),
        "label": clip.label,
        "subject": clip.subject,
        "camera": clip.camera,
        "setup": clip.setup,
        "replication": clip.replication,
        "splits": ";".join(split.replace(";", "%3B") for split in clip.splits) or None,
        "persons": int(clip.present.any(axis=0).sum()),
        "source": source,
        "sha256": content_sha256(frames, clip.present),
        "warnings": shorten(clean(clip_warnings.join(clip.warnings))),
    }


def shorten(text: str) -> str:
    """Truncate a text to be stored after 5,000 characters: it may quote a name of any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def content_sha256(frames: NDArray[np.float32], present: NDArray[np.bool_]) -> str:
    """Hex SHA-256 of a clip: its shape, frames [T, P, K, 3] and presence [T, P]."""
    content = hashlib.sha256(json.dumps(frames.shape).encode())
    content.update(np.ascontiguousarray(frames, "<f4").tobytes())
    content.update(np.ascontiguousarray(present, bool).tobytes())
    return content.hexdigest()


def in_order(clips: pd.DataFrame) -> pd.DataFrame:
    """Sort clips by name, and those of one name in an order that does not depend on how they were delivered."""
    return clips.sort_values(["name", "source", "sha256"], ignore_index=True)


def read_clips(segment: Path) -> pd.DataFrame:
    """Read the clip table of a segment: one row per clip, columns as `glt.data.clip_table.COLUMNS`."""
    return clip_table.from_arrow(pq.read_table(segment / "clips.parquet"))


def write_rejected(folder: Path, rows: Iterable[Mapping[str, str]], name: str = "rejected.parquet") -> None:
    """Write a table of files that gave no clip into a folder; each row has source, check and reason."""
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], REJECTED), folder / name)
