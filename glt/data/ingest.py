"""Recordings -> a folder of clips. Segments that are finished are taken over, so only what is new is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from joblib.externals.loky.process_executor import TerminatedWorkerError

from glt import artifact
from glt.data import clip_table, splits
from glt.data.chunk_reader import MISSING_LIST, read_chunk
from glt.data.clips import SegmentWriter, in_order, read_clips, write_rejected
from glt.data.formats import FORMATS
from glt.data.recording import Recording, Rejection
from glt.data.segments import Part, SegmentCache, settings
from glt.data.sources import Batch, batches
from glt.errors import GltError
from glt.outputs import FileKind
from glt.recipe import DataConfig, Recipe
from glt.reporter import Reporter

REPEAT = "repeat"  # the check of a clip that came twice with the same content: it is no loss
NO_LOSS = frozenset({REPEAT, MISSING_LIST})
REJECT_LIST = FileKind("list of rejected files", lambda content: content.startswith(b"source,check,reason"))
_CHUNK = 64  # files that a worker process reads at a time


def ingest(
    recordings: Path,
    recipe: Recipe,
    out: Path,
    info: Mapping[str, Any],
    reporter: Reporter,
    segments: Path,
    processes: int | None = None,
) -> None:
    """Read all recordings, check them, and seal the folder of clips at `out`.

    Args:
        recordings: a folder, an archive, a folder of archives, or one recording.
        recipe: its data section says which reader, how many persons, and what is checked.
        out: place of the folder. One that is there already is replaced.
        info: what to store in the manifest (data version, code version, ...).
        reporter: hears of progress.
        segments: folder that keeps finished segments between ingests; the clips link to them. May be deleted any time.
        processes: that read; all cores if not given.

    Raises:
        GltError: a missing path, an unreadable archive, no recordings of this format, no clip left, or more than
            `data.max_rejects` rejected; ``<out>.rejected.csv`` then lists them. Nothing else is left behind but
            finished segments.
    """
    try:
        _ingest(Path(recordings), recipe, Path(out), info, reporter, SegmentCache(segments), processes)
    except OSError as error:
        raise GltError(
            f"{error.filename or out}: {error.strerror or error}; free space on the disk or mend the permissions of "
            f"{out} and {segments}, then run again: finished segments are taken over"
        ) from error


def _ingest(
    recordings: Path,
    recipe: Recipe,
    out: Path,
    info: Mapping[str, Any],
    reporter: Reporter,
    cache: SegmentCache,
    processes: int | None,
) -> None:
    data = recipe.data
    splits.protocol(data)
    form, shaping = FORMATS[data.format], settings(data)
    found = batches(recordings, form.suffixes, form.sidecars)
    parts: dict[str, Part] = {}
    repeats = []
    done, total = 0, sum(len(batch.names) for batch in found)

    def tell(files: int) -> None:
        reporter.progress("ingest", done + files, total)

    try:
        for part in cache.parts(found, shaping):
            if part.digest in parts:
                repeats.append(_row(part.batch.path.name, REPEAT, "the same recordings as another batch"))
            else:
                parts[part.digest] = part
                if not cache.has(part.digest):
                    _write(part, data, shaping, cache.place(part.digest), tell, processes)
            done += len(part.batch.names)
            tell(0)
    finally:
        cache.hashes.save()
    folders = {digest: cache.place(digest) for digest in parts}
    clips = in_order(pd.concat([read_clips(folder) for folder in folders.values()], ignore_index=True))
    rejected = [*_rejected_of(folders), *_twice(clips), *repeats]
    _judge(recordings, clips["name"].nunique(), rejected, recipe, out)
    clip_table.validate(clips.drop_duplicates("name"))
    made = [artifact.open_artifact(folder, "segment", verify=False) for folder in folders.values()]
    skeleton = _skeleton(made, recordings)
    lost = sorted({joint for info in made for joint in info["lost"]})
    contents = {
        **{"format": data.format, "reader": form.version, "persons": data.persons, "lost": lost},
        "segments": list(folders),
    }
    known: dict[str, str] = {}
    with artifact.create(out, "clips", {**info, **contents, "recipe": recipe.model_dump(mode="json")}, known) as store:
        (store / "segments").mkdir()
        for digest in folders:
            cache.link(digest, store / "segments" / digest, known, f"segments/{digest}")
        write_rejected(store, rejected)
        artifact.write_json(store / "skeleton.json", skeleton)
    cache.hashes.save()
    REJECT_LIST.check(reject_list(out))
    reject_list(out).unlink(missing_ok=True)


def read_batch(
    batch: Batch, data: DataConfig, processes: int | None = None
) -> Iterator[list[tuple[str, list[Recording | Rejection]]]]:
    """The files of a batch with their clips and rejections, some at a time; in several processes if that pays.

    Raises:
        GltError: a process was killed.
    """
    pool = joblib.Parallel(
        n_jobs=(processes or joblib.cpu_count()) if len(batch.names) > 4 * _CHUNK else 1,
        pre_dispatch="3*n_jobs",
        batch_size=1,
        return_as="generator",
    )
    try:
        yield from pool(joblib.delayed(read_chunk)(chunk, data) for chunk in batch.chunks(_CHUNK))
    except TerminatedWorkerError as error:
        raise GltError(
            f"recordings {batch.path}: a process that reads them was killed, probably for want of memory; "
            "run again with more memory or fewer processes: finished segments are taken over"
        ) from error


def _write(
    part: Part, data: DataConfig, shaping: str, folder: Path, tell: Callable[[int], None], processes: int | None
) -> None:
    """Read a part, and write its segment."""
    info: dict[str, Any] = {"settings": shaping, "files": part.files, "skeleton": None}
    with artifact.create(folder, "segment", info) as draft:
        with SegmentWriter(draft, data.persons) as segment:
            number = 0
            for files in read_batch(part.batch, data, processes):
                for source, found in files:
                    for recording in found:
                        _add(segment, source, recording)
                number += len(files)
                tell(number)
        info["skeleton"] = segment.skeleton.to_dict() if segment.skeleton else None
        info["lost"] = sorted(segment.lost)


def _add(segment: SegmentWriter, source: str, recording: Recording | Rejection) -> None:
    try:
        if isinstance(recording, Rejection):
            raise recording
        segment.add(recording, source)
    except Rejection as rejection:
        segment.reject(source, rejection)


def _skeleton(made: Iterable[Mapping[str, Any]], recordings: Path) -> dict[str, Any]:
    """The layout of all segments."""
    layouts = [info["skeleton"] for info in made if info["skeleton"] is not None]
    for layout in layouts[1:]:
        if layout != layouts[0]:
            raise GltError(
                f"recordings {recordings}: batches of different layouts ({layouts[0]['name']}, {layout['name']}); "
                "set data.layout to one that all can be mapped to"
            )
    found: dict[str, Any] = layouts[0]
    return found


def _row(source: str, check: str, reason: str) -> dict[str, str]:
    return {"source": source, "check": check, "reason": reason}


def _rejected_of(folders: Mapping[str, Path]) -> list[dict[str, str]]:
    tables = [pd.read_parquet(folder / "rejected.parquet") for folder in folders.values()]
    return [_row(*row) for table in tables for row in table[["source", "check", "reason"]].to_numpy()]


def _twice(clips: pd.DataFrame) -> list[dict[str, str]]:
    """Clips whose name another one has that comes first in order: that one is kept."""
    first, later = clips.drop_duplicates("name"), clips[clips.duplicated("name")]
    rows = []
    for clip in later.merge(first, on="name", suffixes=("", "_kept")).to_dict("records"):
        same = clip["sha256"] == clip["sha256_kept"]
        what = "with the same content" if same else "with another content: rename one of the two"
        reason = f"{clip['source_kept']} gives the clip {clip['name']} too, {what}"
        rows.append(_row(clip["source"], REPEAT if same else "duplicate", reason))
    return rows


def _judge(recordings: Path, clips: int, rejected: list[dict[str, str]], recipe: Recipe, out: Path) -> None:
    """Stop when too much was rejected, or nothing is left."""
    lost = pd.DataFrame([row for row in rejected if row["check"] not in NO_LOSS], columns=["source", "check", "reason"])
    share, allowed = len(lost) / max(clips + len(lost), 1), recipe.data.max_rejects
    if clips and share <= allowed:
        return
    REJECT_LIST.write(reject_list(out), pd.DataFrame(rejected).to_csv(index=False).encode())
    worst = "; ".join(
        f"{count} x {check} (as {example.source}: {example.reason})"
        for check, count in lost["check"].value_counts().head(3).items()
        for example in lost[lost["check"] == check].head(1).itertuples()
    )
    raise GltError(
        f"recordings {recordings}: {len(lost)} of {clips + len(lost)} rejected ({share:.1%}, data.max_rejects allows "
        f"{allowed:.1%}): {worst}. All are in {reject_list(out)}; mend or remove them, or raise data.max_rejects"
    )


def reject_list(out: Path) -> Path:
    """The table of rejected files that is written beside `out` when there are too many of them."""
    return out.with_name(f"{out.name}.rejected.csv")
