"""Recordings -> a folder of clips. Finished segments are reused, so only new recordings are read."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from glt import artifact
from glt.data import clip_table, clip_warnings, label_account, splits
from glt.data.account import Account, count_files
from glt.data.chunk_reader import MISSING_LIST, rejection_of
from glt.data.clips import LEFT_OUT, SegmentWriter, in_order, read_clips, write_rejected
from glt.data.formats import FORMATS
from glt.data.layouts import Skeleton, difference
from glt.data.listing import Names, list_recordings
from glt.data.recording import Recording, Rejection
from glt.data.segments import Part, SegmentCache, settings
from glt.data.sources import FOLDER, Batch
from glt.data.workers import CHUNK, LIMITED, Readers
from glt.errors import GltError
from glt.outputs import FileKind, csv_bytes
from glt.recipe import Recipe
from glt.reporter import Reporter
from glt.text import clean

REPEAT = "repeat"  # check of a clip that came twice with the same content: rejecting it is no loss
NO_LOSS = frozenset({REPEAT, MISSING_LIST})
REJECT_LIST = FileKind("list of rejected files", lambda content: content.startswith(b"source,check,reason\n"))
LEAST_REJECTS = 5  # fewer never stop an ingest, however small the set

ProgressCallback = Callable[[int], None]  # takes the number of files read so far


def ingest(
    recordings: Path,
    recipe: Recipe,
    out: Path,
    info: Mapping[str, Any],
    reporter: Reporter,
    segments: Path,
    processes: int | None = None,
    any_name: bool = False,
) -> None:
    """Read and check all recordings, and write the folder of clips at `out`.

    Args:
        recordings: a folder, an archive, a folder of archives, or one recording.
        recipe: its data section names the reader, the number of persons and the checks.
        out: path of the folder; an existing one is replaced.
        info: stored in the manifest (data version, code version, ...).
        reporter: receives the progress.
        segments: folder that caches finished segments between ingests; the clips link to them. It may be deleted.
        processes: number of processes that read; one per core if not given.
        any_name: accept files without the format's name or label, for prediction; use a separate `segments` folder.

    Raises:
        GltError: a missing path, no recordings of this format, no clip left, a failure of the machine, or too many
            rejects: at least `LEAST_REJECTS`, and more than `data.max_rejects`. ``<out>.rejected.csv`` then lists the
            rejects. Apart from this list only finished segments are left behind.
    """
    try:
        _ingest(Path(recordings), recipe, Path(out), info, reporter, SegmentCache(segments), processes, any_name)
    except OSError as error:
        raise GltError(
            f"{error.filename or out}: {error.strerror or error}; free space on the disk or correct the permissions "
            f"of {out} and {segments}, then run again: finished segments are reused"
        ) from error


def _ingest(
    recordings: Path,
    recipe: Recipe,
    out: Path,
    info: Mapping[str, Any],
    reporter: Reporter,
    cache: SegmentCache,
    processes: int | None,
    any_name: bool,
) -> None:
    data = recipe.data
    splits.protocol(data)
    reader = FORMATS[data.format]
    with Readers(data, any_name=any_name, **({} if processes is None else {"processes": processes})) as readers:
        listing = list_recordings(recordings, Names(reader.suffixes, reader.sidecars), readers.list_members)
        parts, repeats = _read_segments(listing.batches, readers, reporter, cache)
    folders = {part.digest: cache.folder(part.digest) for part in parts}
    tables = [read_clips(folder).assign(segment=digest) for digest, folder in folders.items()]
    clips = in_order(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame(columns=clip_table.NAMES)
    lost = _rejected_files(folders)
    manifests = {key: artifact.open_artifact(folder, "segment", verify=False) for key, folder in folders.items()}
    skeleton, odd = _common_skeleton(manifests, clips)
    for digest, reason in odd.items():
        sources = clips.loc[clips["segment"] == digest, "source"].unique()
        lost[digest] += [_row(source, "layout", reason) for source in sources]
        del folders[digest]
    clips = clips[~clips["segment"].isin(list(odd))]
    places = {part.digest: _place(part.batch, recordings) for part in parts}
    for digest, row in _duplicate_names(clips, places):
        lost[digest].append(row)
    account = Account(0, len(listing.rejected), len(listing.left_out) + sum(len(batch.names) for batch in repeats))
    taken = clips.drop_duplicates("name").groupby("segment")["source"].agg(set)
    rejected = []
    for part in parts:
        rows = lost[part.digest]
        losses = ((row["source"], row["check"] not in NO_LOSS) for row in rows)
        account += count_files(part.batch.names, taken.get(part.digest, set()), losses)
        rejected += [{**row, "source": f"{places[part.digest]}{row['source']}"} for row in rows]
    rejected += [one.row() for one in listing.rejected]
    again = dict.fromkeys(_source(batch, recordings) for batch in repeats)
    rejected += [_row(source, REPEAT, "the same recordings as another batch") for source in again]
    _check_rejects(recordings, clips["name"].nunique(), rejected, recipe, out)
    clip_table.validate(clips.drop_duplicates("name"))
    contents = {
        "format": data.format,
        "reader": FORMATS[data.format].version,
        "persons": data.persons,
        "lost": sorted({joint for digest in folders for joint in manifests[digest]["lost"]}),
        "coordinates": _coordinates(manifests[digest] for digest in folders),
        "segments": list(folders),
        "account": account.to_dict(),
        "warned": clip_warnings.to_dict(clips.drop_duplicates("name")),
        "labels": label_account.count([*listing.batches, *listing.unused]),
    }
    known: dict[str, str] = {}
    with artifact.create(out, "clips", {**info, **contents, "recipe": recipe.model_dump(mode="json")}, known) as store:
        (store / "segments").mkdir()
        for digest in folders:
            cache.link(digest, store / "segments" / digest, known, f"segments/{digest}")
        write_rejected(store, rejected)
        write_rejected(store, [one.row() for one in listing.left_out], LEFT_OUT)
        artifact.write_json(store / "skeleton.json", skeleton)
    cache.hashes.save()
    REJECT_LIST.check(reject_list(out))
    reject_list(out).unlink(missing_ok=True)


def _read_segments(
    found: list[Batch], readers: Readers, reporter: Reporter, cache: SegmentCache
) -> tuple[list[Part], list[Batch]]:
    """Read the segments that the cache lacks.

    Returns:
        The part of each segment, and the batches, or parts of batches, that repeat earlier ones.
    """
    shaping = settings(readers.data)
    parts: dict[str, Part] = {}
    repeats: list[Batch] = []
    done, total = 0, sum(len(batch.names) for batch in found)

    def advance(files: int) -> None:
        """Report `files` of the present part as read."""
        reporter.progress("ingest", done + files, total)

    try:
        for part in cache.parts(found, shaping):
            if part.digest in parts:
                repeats.append(part.batch)
            else:
                parts[part.digest] = part
                with cache.missing(part.digest) as is_missing:
                    if is_missing:
                        _write_segment(part, readers, shaping, cache, advance)
            done += len(part.batch.names)
            advance(0)
    finally:
        cache.hashes.save()
    # By digest, so that the order does not depend on which segments were cached.
    return sorted(parts.values(), key=lambda part: part.digest), repeats


def _write_segment(part: Part, readers: Readers, shaping: str, cache: SegmentCache, advance: ProgressCallback) -> None:
    """Read a part and write its segment, in the layout of most of its clips."""
    info: dict[str, Any] = {"settings": shaping, "files": part.files, "skeleton": None}
    with artifact.create(cache.folder(part.digest), "segment", info) as draft:
        segment = _fill_segment(part, readers, draft, advance)
        most = segment.layouts.most_common(1)
        if most and most[0][0] != segment.skeleton:
            shutil.rmtree(draft / "rejected", ignore_errors=True)
            segment = _fill_segment(part, readers, draft, advance, most[0][0])
        info["skeleton"] = segment.skeleton.to_dict() if segment.skeleton else None
        info["lost"] = sorted(segment.lost)
        info["coordinates"] = [one.to_dict() for one, _ in segment.coordinates.most_common()]
        if segment.checks & LIMITED or not cache.is_current(part):
            # Not reused: the machine may have been slow, its limits may be raised, or a file changed meanwhile.
            info["limited"] = True


def _fill_segment(
    part: Part, readers: Readers, draft: Path, advance: ProgressCallback, layout: Skeleton | None = None
) -> SegmentWriter:
    """Read a part into a segment whose clips have one layout: that of the first if none is given."""
    with SegmentWriter(draft, readers.data.persons, layout) as segment:
        done = 0
        for source, results in readers.read(part.batch, draft):
            for recording in results:
                _add(segment, source, recording)
            done += 1
            if done % CHUNK == 0:
                advance(done)
        advance(done)
    return segment


def _add(segment: SegmentWriter, source: str, recording: Recording | Rejection) -> None:
    if isinstance(recording, Rejection):
        segment.reject(source, recording)
        return
    try:
        segment.add(recording, source)
    except OSError:
        raise  # the segment cannot be written: the disk fails, not the clip
    except Exception as error:
        segment.reject(source, rejection_of(error, recording.name))


def _common_skeleton(
    segments: Mapping[str, Mapping[str, Any]], clips: pd.DataFrame
) -> tuple[dict[str, Any], dict[str, str]]:
    """The layout of most clips, and, by digest, the difference of each segment that has another layout.

    Args:
        segments: manifests of the segments by digest.
        clips: one row per clip, with the column ``segment``.
    """
    counts = clips["segment"].value_counts()
    layouts = {digest: one["skeleton"] for digest, one in segments.items() if one["skeleton"] is not None}
    sizes: Counter[str] = Counter()
    for digest, layout in layouts.items():
        sizes[json.dumps(layout)] += int(counts.get(digest, 0))
    if not sizes:
        return {}, {}
    common: dict[str, Any] = json.loads(sizes.most_common(1)[0][0])
    skeleton = Skeleton.from_dict(common)
    odd = {digest: layout for digest, layout in layouts.items() if layout != common}
    return common, {digest: difference(Skeleton.from_dict(layout), skeleton) for digest, layout in odd.items()}


def _coordinates(segments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The coordinates of the files of all segments, each once."""
    found = [one for segment in segments for one in segment.get("coordinates", ())]
    return [one for position, one in enumerate(found) if one not in found[:position]]


def _row(source: str, check: str, reason: str) -> dict[str, str]:
    return {"source": source, "check": check, "reason": reason}


def _source(batch: Batch, recordings: Path) -> str:
    """Name of a batch in the list of rejected files."""
    inside = batch.path.is_relative_to(recordings) and batch.path != recordings
    return clean(batch.path.relative_to(recordings).as_posix() if inside else batch.path.name)


def _place(batch: Batch, recordings: Path) -> str:
    """Prefix of the names of a batch's files in the list of rejected files: its archive, if it is one of several."""
    return "" if batch.kind == FOLDER or batch.path == recordings else f"{_source(batch, recordings)}/"


def _rejected_files(folders: Mapping[str, Path]) -> dict[str, list[dict[str, str]]]:
    """The rows of rejected files of segments, by the segment's digest."""
    tables = {digest: pd.read_parquet(folder / "rejected.parquet") for digest, folder in folders.items()}
    columns = ["source", "check", "reason"]
    return {digest: [_row(*row) for row in table[columns].to_numpy()] for digest, table in tables.items()}


def _duplicate_names(clips: pd.DataFrame, places: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Clips with the name of an earlier clip, which is kept: the segment's digest and the reject row of each.

    Args:
        clips: one row per clip, with the column ``segment``.
        places: prefix of the files' names by segment.
    """
    first, later = clips.drop_duplicates("name"), clips[clips.duplicated("name")]
    rows = []
    for clip in later.merge(first, on="name", suffixes=("", "_first")).to_dict("records"):
        same = clip["sha256"] == clip["sha256_first"]
        what = "with the same content" if same else "with other content: rename one of the two"
        first_file = f"{places[clip['segment_first']]}{clip['source_first']}"
        reason = f"{first_file} gives the clip {clip['name']} too, {what}"
        rows.append((clip["segment"], _row(clip["source"], REPEAT if same else "duplicate", reason)))
    return rows


def _check_rejects(recordings: Path, clips: int, rejected: list[dict[str, str]], recipe: Recipe, out: Path) -> None:
    """Raise a GltError if too many files were rejected or no clip is left."""
    lost = pd.DataFrame([row for row in rejected if row["check"] not in NO_LOSS], columns=["source", "check", "reason"])
    share, allowed = len(lost) / max(clips + len(lost), 1), recipe.data.max_rejects
    if clips and (share <= allowed or len(lost) < LEAST_REJECTS):
        return
    REJECT_LIST.write(reject_list(out), csv_bytes(pd.DataFrame(rejected, columns=lost.columns)))
    worst = "; ".join(
        f"{count} x {check} (e.g. {example.source}: {example.reason})"
        for check, count in lost["check"].value_counts().head(3).items()
        for example in lost[lost["check"] == check].head(1).itertuples()
    )
    limit = f"data.max_rejects allows {allowed:.1%}" if clips else "no clip is left"
    remedy = "correct or remove them" + (", or raise data.max_rejects" if clips else "")
    raise GltError(
        f"recordings {recordings}: {len(lost)} of {clips + len(lost)} rejected ({share:.1%}, {limit}): {worst}. "
        f"All are in {reject_list(out)}; {remedy}"
    )


def reject_list(out: Path) -> Path:
    """Path of the table of rejected files, written next to `out` if there are too many."""
    return out.with_name(f"{out.name}.rejected.csv")
