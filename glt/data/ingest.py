"""Recordings -> a folder of clips. Segments that are finished are taken over, so an interrupted ingest goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from glt import artifact
from glt.data import splits
from glt.data.checks import accept
from glt.data.clips import SegmentWriter, read_clips, write_rejected
from glt.data.formats import FORMATS, Format
from glt.data.recording import Rejection
from glt.data.sources import Batch, batches
from glt.errors import GltError
from glt.recipe import DataConfig, Recipe
from glt.reporter import Reporter

SEGMENT_FILES = 2000  # a larger batch becomes several segments, so that an interruption costs little
REPEAT = "repeat"  # the check of a clip that came twice with the same content: it is no loss


def ingest(recordings: Path, recipe: Recipe, out: Path, info: Mapping[str, Any], reporter: Reporter) -> None:
    """Read all recordings, check them, and seal the folder of clips at `out`.

    Args:
        recordings: a folder, a zip, a folder of zips, or one recording.
        recipe: its data section says which reader and how many persons.
        out: place of the folder. One that is there already is replaced, and its segments are used again where the
            recordings are the same.
        info: what to store in the manifest (data version, code version, ...).
        reporter: hears of progress.

    Raises:
        GltError: a missing path, an unreadable archive, no recordings of this format, no clip left, or more than
            `data.max_rejects` rejected; ``<out>.rejected.csv`` then lists them. Nothing else is left behind.
    """
    out = Path(out)
    data = recipe.data
    splits.protocol(data)
    form = FORMATS[data.format]
    assert form.skeleton is not None
    skeleton = form.skeleton
    parts = [part for batch in batches(Path(recordings), form.suffixes) for part in batch.parts(SEGMENT_FILES)]
    drafts = out.with_name(f".{out.name}.segments")
    folders: dict[str, Path] = {}
    repeats = []
    done, total = 0, sum(len(part.names) for part in parts)

    def tell(files: int) -> None:
        reporter.progress("ingest", done + files, total)

    for part in parts:
        digest = _segment_digest(part, form, data)
        if digest in folders:
            repeats.append(_rejected(str(part.path.name), REPEAT, "the same recordings as another batch"))
        else:
            folders[digest] = _finished(digest, drafts, out) or _write(part, form, data, drafts / digest, tell)
        done += len(part.names)
        tell(0)
    clips = pd.concat([read_clips(folder) for folder in folders.values()], ignore_index=True)
    rejected = [*_rejected_of(folders), *_twice(clips), *repeats]
    try:
        _judge(recordings, clips["name"].nunique(), rejected, recipe, out)
    except GltError:
        shutil.rmtree(drafts, ignore_errors=True)
        raise
    contents = {"format": data.format, "reader": form.version, "persons": data.persons, "segments": list(folders)}
    with artifact.create(out, "clips", {**info, **contents, "recipe": recipe.model_dump(mode="json")}) as store:
        (store / "segments").mkdir()
        for digest, folder in folders.items():
            if folder.parent == drafts:
                folder.replace(store / "segments" / digest)
            else:
                shutil.copytree(folder, store / "segments" / digest)
        write_rejected(store, rejected)
        artifact.write_json(store / "skeleton.json", skeleton.to_dict())
    shutil.rmtree(drafts, ignore_errors=True)
    _reject_list(out).unlink(missing_ok=True)


def _segment_digest(part: Batch, form: Format, data: DataConfig) -> str:
    """Names a segment by all that determines its content."""
    return hashlib.sha256(json.dumps([data.format, form.version, data.persons, part.digest()]).encode()).hexdigest()


def _finished(digest: str, drafts: Path, out: Path) -> Path | None:
    """The segment if an interrupted ingest, or the last one, has left it whole."""
    for folder in (drafts / digest, out / "segments" / digest):
        try:
            artifact.open_artifact(folder, "segment")
        except GltError:
            continue
        return folder
    return None


def _write(part: Batch, form: Format, data: DataConfig, folder: Path, tell: Callable[[int], None]) -> Path:
    assert form.skeleton is not None
    with artifact.create(folder, "segment", {}) as draft, SegmentWriter(draft, form.skeleton, data.persons) as segment:
        for number, (name, content) in enumerate(part.files()):
            tell(number)
            try:
                if isinstance(content, Rejection):
                    raise content
                for recording in form.read(name, content, {}):
                    if isinstance(recording, Rejection):
                        raise recording
                    segment.add(accept(recording, data), name)
            except Rejection as rejection:
                segment.reject(name, rejection.check, rejection.reason)
    return folder


def _rejected(source: str, check: str, reason: str) -> dict[str, str]:
    return {"source": source, "check": check, "reason": reason}


def _rejected_of(folders: Mapping[str, Path]) -> list[dict[str, str]]:
    tables = [pd.read_parquet(folder / "rejected.parquet") for folder in folders.values()]
    return [_rejected(*row) for table in tables for row in table[["source", "check", "reason"]].to_numpy()]


def _twice(clips: pd.DataFrame) -> list[dict[str, str]]:
    """Clips whose name an earlier one has: that one is kept."""
    first, later = clips.drop_duplicates("name"), clips[clips.duplicated("name")]
    rows = []
    for clip in later.merge(first, on="name", suffixes=("", "_kept")).to_dict("records"):
        same = clip["sha256"] == clip["sha256_kept"]
        what = "with the same content" if same else "with another content: rename one of the two"
        reason = f"{clip['source_kept']} gives the clip {clip['name']} too, {what}"
        rows.append(_rejected(clip["source"], REPEAT if same else "duplicate", reason))
    return rows


def _judge(recordings: Path, clips: int, rejected: list[dict[str, str]], recipe: Recipe, out: Path) -> None:
    """Stop when too much was rejected, or nothing is left."""
    lost = pd.DataFrame([row for row in rejected if row["check"] != REPEAT], columns=["source", "check", "reason"])
    share, allowed = len(lost) / max(clips + len(lost), 1), recipe.data.max_rejects
    if clips and share <= allowed:
        return
    artifact.write_bytes(_reject_list(out), pd.DataFrame(rejected).to_csv(index=False).encode())
    worst = "; ".join(
        f"{count} x {check} (as {example.source}: {example.reason})"
        for check, count in lost["check"].value_counts().head(3).items()
        for example in lost[lost["check"] == check].head(1).itertuples()
    )
    raise GltError(
        f"recordings {recordings}: {len(lost)} of {clips + len(lost)} rejected ({share:.1%}, data.max_rejects allows "
        f"{allowed:.1%}): {worst}. All are in {_reject_list(out)}; mend or remove them, or raise data.max_rejects"
    )


def _reject_list(out: Path) -> Path:
    return out.with_name(f"{out.name}.rejected.csv")
