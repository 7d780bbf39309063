"""The cache of finished segments, reused between ingests.

A segment is named by the content that it is read from and by all settings that shape clips. So a batch is read only
once, an interrupted ingest continues at its next segment, and the cost of new recordings is theirs alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from glt import artifact
from glt.data import checks, layout_mapping
from glt.data.archives import too_large
from glt.data.formats import FORMATS
from glt.data.hashes import FileHashes
from glt.data.machine import raise_machine_failure
from glt.data.recording import Rejection
from glt.data.sources import Batch
from glt.errors import GltError
from glt.recipe import DataConfig

_LOG = logging.getLogger(__name__)

SEGMENT_FILES = 2000  # a larger batch becomes several segments, so that an interruption costs little
# Drafts of earlier versions of glt carry no lock; a segment takes less than a day.
_FORMER_DRAFT, _DAY = re.compile(r"\.[0-9a-f]{64}\.(?!glt-).+"), 24 * 3600.0

_FILE = re.compile(r"(frames|present|confidence)\.npy|(clips|rejected)\.parquet|rejected/\d+\.npz|\.?manifest\.json.*")


def settings(data: DataConfig) -> str:
    """All settings and versions that determine the clips of given recordings, as JSON."""
    fields = {"format", "layout", "rate", "persons", "bodies", "missing_list", "checks"}
    shaping = data.model_dump(mode="json", include=fields)
    return json.dumps([shaping, FORMATS[data.format].version, checks.VERSION, layout_mapping.VERSION], sort_keys=True)


@dataclass(frozen=True)
class Part:
    """The recordings of one segment.

    Attributes:
        digest: the segment's name.
        batch: the recordings.
        files: content hash of each loose file by name; None for a part of an archive.
    """

    digest: str
    batch: Batch
    files: dict[str, str] | None


class SegmentCache:
    """A folder of finished segments.

    Attributes:
        hashes: content hashes of files, cached until a file changes.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the folder; drafts of segments whose processes have ended are deleted."""
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.hashes = FileHashes(self._folder / "hashes.json")
        self._contents: dict[Path, str] = {}  # hash of each file when its part's digest was computed
        artifact.sweep(self._folder)
        for draft in self._folder.glob(".*"):
            if _FORMER_DRAFT.fullmatch(draft.name) and draft.is_dir() and time.time() - draft.stat().st_mtime > _DAY:
                shutil.rmtree(draft, ignore_errors=True)

    def folder(self, digest: str) -> Path:
        """Path of the segment, whether it is finished or not."""
        return self._folder / digest

    @contextmanager
    def missing(self, digest: str) -> Iterator[bool]:
        """True if the caller must write the segment in the block; other processes wait for it meanwhile.

        Waits for a process that is writing the segment; reports and deletes a damaged segment.
        """
        if self.has(digest):
            yield False
            return
        folder = self.folder(digest)
        with artifact.reserve(folder, wait=f"waiting for another process that reads the same recordings ({folder})"):
            damage = self._damage(digest)
            if damage:
                _LOG.warning("segment %s; its recordings are read again", damage.partition("; ")[0])
                if _holds_only_a_segment(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            yield not folder.exists() or bool(damage)

    def has(self, digest: str) -> bool:
        """True if the segment is finished and undamaged.

        All bytes are read and hashed: time stamps do not show a bit that has flipped on the disk.
        """
        return self.folder(digest).exists() and not self._damage(digest)

    def _damage(self, digest: str) -> str:
        """The reason why a segment cannot be used; empty if it can, or is missing."""
        folder = self.folder(digest)
        try:
            if folder.exists():
                info = artifact.open_artifact(folder, "segment")
                with artifact.reading(folder / artifact.MANIFEST):
                    info["lost"], info["skeleton"]
                if info.get("limited"):
                    return (
                        f"{folder.name[:12]}: reading a file in it took too long or too much memory, or it changed "
                        "meanwhile; it is tried again"
                    )
        except GltError as error:
            return str(error)
        return ""

    def is_current(self, part: Part) -> bool:
        """True if the files of a part still have the content that its digest was computed from."""
        batch = part.batch
        files = [batch.path] if batch.is_archive else [batch.file(name) for name in batch.names]
        try:
            return all(self.hashes.of(file) == self._contents[file] for file in files if file in self._contents)
        except OSError:
            return False

    def link(self, digest: str, target: Path, known: MutableMapping[str, str], prefix: str) -> None:
        """Hard-link the segment to `target` (or copy it), and add the hashes of its files to `known` under `prefix`."""
        folder = self.folder(digest)
        shutil.copytree(folder, target, copy_function=artifact.link)
        known.update({f"{prefix}/{name}": sha256 for name, sha256 in artifact.files(folder).items()})

    def parts(self, batches: Iterable[Batch], settings: str) -> Iterator[Part]:
        """Divide batches into parts of one segment each; loose files are assigned to existing segments first."""
        for batch in batches:
            if batch.is_archive:
                content = self._contents[batch.path] = self.hashes.of(batch.path)
                for part in batch.parts(SEGMENT_FILES):
                    yield Part(_digest(settings, content, part.names), part, None)
            else:
                yield from self._loose(batch, settings)

    def _loose(self, batch: Batch, settings: str) -> Iterator[Part]:
        remaining = {name: self._content(batch, name) for name in batch.names}
        for digest, files in self._finished(settings):
            if files.items() <= remaining.items():
                yield Part(digest, batch.subset(tuple(sorted(files))), files)
                remaining = {name: content for name, content in remaining.items() if name not in files}
        for part in batch.subset(tuple(sorted(remaining))).parts(SEGMENT_FILES):
            files = {name: remaining[name] for name in part.names}
            yield Part(_digest(settings, files), part, files)

    def _content(self, batch: Batch, name: str) -> str:
        """Hash of a loose recording and of the sidecars that describe it."""
        file = batch.file(name)
        try:
            size = file.stat().st_size
            if too_large(name, size):
                content = f"{size} bytes"  # it is rejected unread
            else:
                content = self._contents[file] = self.hashes.of(file)
        except OSError as error:
            raise_machine_failure(error, file)
            content = f"unreadable: {error.strerror}"
        try:
            sidecars = {file: hashlib.sha256(data).hexdigest() for file, data in batch.sidecars(name).items()}
        except Rejection as rejection:
            sidecars = {"unreadable": rejection.reason}
        return _digest(content, sidecars) if sidecars else content

    def _finished(self, settings: str) -> list[tuple[str, dict[str, str]]]:
        """(digest, files) of finished segments of loose files with these settings, the largest first."""
        segments = []
        for manifest in self._folder.glob(f"*/{artifact.MANIFEST}"):
            try:
                info = artifact.open_artifact(manifest.parent, "segment", verify=False)
            except GltError:
                continue
            if info.get("settings") == settings and info.get("files") and isinstance(info["files"], dict):
                segments.append((manifest.parent.name, info["files"]))
        return sorted(segments, key=lambda segment: (-len(segment[1]), segment[0]))


def _holds_only_a_segment(folder: Path) -> bool:
    """True if a folder holds only files of a segment, even if damaged or unfinished."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    files = [file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir()]
    return all(_FILE.fullmatch(file.relative_to(folder).as_posix()) for file in files)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
