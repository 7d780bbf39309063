"""Finished segments, kept between ingests, and which of them new recordings need.

A segment is named by the content of what it is read from and by all settings that shape clips. So a batch that was read
once is not read again, an interrupted ingest goes on at its next segment, and new recordings cost their own share.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from glt import artifact
from glt.data import checks, layout_mapping
from glt.data.formats import FORMATS
from glt.data.hashes import FileHashes
from glt.data.sources import Batch
from glt.errors import GltError
from glt.recipe import DataConfig

SEGMENT_FILES = 2000  # a larger batch becomes several segments, so that an interruption costs little
_STALE = 24 * 3600.0  # seconds after which an unfinished segment is nobody's work any more


def settings(data: DataConfig) -> str:
    """All that shapes the clips of given recordings, as text."""
    shaping = data.model_dump(mode="json", include={"format", "layout", "persons", "bodies", "missing_list", "checks"})
    return json.dumps([shaping, FORMATS[data.format].version, checks.VERSION, layout_mapping.VERSION], sort_keys=True)


@dataclass(frozen=True)
class Part:
    """What one segment is read from.

    Attributes:
        digest: the segment's name.
        batch: the recordings.
        files: content hash of each loose file, None for a part of an archive.
    """

    digest: str
    batch: Batch
    files: dict[str, str] | None


class SegmentCache:
    """A folder of finished segments.

    Attributes:
        hashes: of files, remembered as long as the files do not change.
    """

    def __init__(self, folder: Path) -> None:
        """Open or make the folder; what a killed ingest left in it long ago is swept away."""
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.hashes = FileHashes(self._folder / "hashes.json")
        for draft in self._folder.glob(".*"):
            if draft.is_dir() and time.time() - draft.stat().st_mtime > _STALE:
                shutil.rmtree(draft, ignore_errors=True)

    def place(self, digest: str) -> Path:
        """Where the segment stands, or will."""
        return self._folder / digest

    def has(self, digest: str) -> bool:
        """Whether the segment is there and whole; a damaged one is deleted."""
        place = self.place(digest)
        if not place.exists():
            return False
        try:
            artifact.open_artifact(place, "segment", sha256=self.hashes.of)
        except GltError:
            shutil.rmtree(place, ignore_errors=True)
            return False
        return True

    def link(self, digest: str, target: Path, known: MutableMapping[str, str], prefix: str) -> None:
        """Put the segment at `target` without copying it where the file system can, and its hashes into `known`."""
        place = self.place(digest)
        shutil.copytree(place, target, copy_function=artifact.link)
        for name, sha256 in artifact.files(place).items():
            known[f"{prefix}/{name}"] = sha256
            self.hashes.remember(place / name, sha256)

    def parts(self, batches: Iterable[Batch], settings: str) -> Iterator[Part]:
        """The batches in parts of one segment each; loose files in those segments that hold them already."""
        for batch in batches:
            if batch.is_archive:
                content = self.hashes.of(batch.path)
                for part in batch.parts(SEGMENT_FILES):
                    yield Part(_digest(settings, content, part.names), part, None)
            else:
                yield from self._loose(batch, settings)

    def _loose(self, batch: Batch, settings: str) -> Iterator[Part]:
        left = {name: self._content(batch, name) for name in batch.names}
        for digest, files in self._known(settings):
            if files.items() <= left.items():
                yield Part(digest, batch.of(tuple(sorted(files))), files)
                left = {name: content for name, content in left.items() if name not in files}
        for part in batch.of(tuple(sorted(left))).parts(SEGMENT_FILES):
            files = {name: left[name] for name in part.names}
            yield Part(_digest(settings, files), part, files)

    def _content(self, batch: Batch, name: str) -> str:
        """Hash of a loose recording and of the sidecars that say something of it."""
        try:
            content = self.hashes.of(batch.path / name)
        except OSError as error:
            content = f"unreadable: {error.strerror}"
        beside = {file: hashlib.sha256(found).hexdigest() for file, found in batch.sidecars(name).items()}
        return _digest(content, beside) if beside else content

    def _known(self, settings: str) -> list[tuple[str, dict[str, str]]]:
        """Whole segments of loose files that were made with these settings, the largest first."""
        found = []
        for manifest in self._folder.glob(f"*/{artifact.MANIFEST}"):
            try:
                info = artifact.open_artifact(manifest.parent, "segment", verify=False)
            except GltError:
                continue
            if info.get("settings") == settings and info.get("files"):
                found.append((manifest.parent.name, info["files"]))
        return sorted(found, key=lambda segment: (-len(segment[1]), segment[0]))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
