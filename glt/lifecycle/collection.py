"""From the landing bucket into data/: what was delivered since the last time, checked, packed and pinned.

What has been taken is written in a ledger that data.dvc pins together with the recordings, so whoever has the commit
knows, and both are there or neither. What is refused stands in the bucket's quarantine, with the reason. The delivered
objects themselves are never touched.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from glt import artifact, settings
from glt.data import delivery, segments
from glt.data.delivery import Judged
from glt.data.sources import visible
from glt.lifecycle import landing, locks, recordings
from glt.lifecycle.landing import Object
from glt.lifecycle.versions import DATA
from glt.recipe import DataConfig
from glt.reporter import Reporter

_BATCH = r"\d{4}-\d{2}-\d{2}-[0-9a-f]{8}"
_LEDGER = re.compile(rf"\.({_BATCH})\.json")
_DRAFTS = Path(".dvc") / "tmp" / "glt-collect"  # on the disk that data/ is on, and no part of the repository
_OURS = re.compile(rf"{_BATCH}\.zip|\.{_BATCH}\.json")


@dataclass(frozen=True)
class Collected:
    """What `collect` did.

    Attributes:
        version: the content hash that data.dvc pins now.
        batch: the name of the new archive in data/; empty if there was nothing to take.
        objects: how many were new.
        clips: that the new archive gives.
        refused: address in the quarantine, check and reason of all that was not taken.
        late: sidecars that came or changed after the recordings that they say something of.
        unpushed: why DVC's remote does not have what is pinned; empty if it has.
    """

    version: str
    batch: str = ""
    objects: int = 0
    clips: int = 0
    refused: tuple[tuple[str, str, str], ...] = ()
    late: tuple[str, ...] = ()
    unpushed: str = ""


def collect(root: Path, address: str, data: DataConfig, reporter: Reporter) -> Collected:
    """Take what is new below an address.

    An object is new if its key and ETag stand in no ledger, and if it was not refused by the same reader and checks.

    Args:
        root: a git repository with DVC, whose data.dvc pins the recordings so far; they need not be on this machine.
        address: ``s3://bucket/prefix``.
        data: the format, and the checks that ingest will make.
        reporter: hears of progress.

    Raises:
        GltError: the bucket or DVC's remote cannot be had, or data/ is not what is pinned. Nothing is lost: the same
            call goes on where it was. Or another process collects here.
    """
    root = Path(root).resolve()
    with locks.of_this_machine(root / ".dvc" / "tmp" / "glt-collect.lock", f"collecting into {root / DATA}"):
        return _collect(root, address, data, reporter)


def _collect(root: Path, address: str, data: DataConfig, reporter: Reporter) -> Collected:
    _sweep(root)
    taken, verdict = _taken(root), hashlib.sha256(segments.settings(data).encode()).hexdigest()[:8]
    there = [found for found in landing.delivered(address) if visible(found.name)]
    refused = landing.filed(address, f"refused-{verdict}.json")
    beside = [found for found in there if delivery.is_sidecar(found.name, data)]
    new = [
        found
        for found in there
        if not delivery.is_sidecar(found.name, data)
        and (landing.locate(address, found.name), found.etag) not in taken
        and (found.name, found.etag) not in refused
    ]
    version = recordings.pinned_version(root)
    late = _late(address, beside, taken)
    if not new:
        return Collected(version, late=late)
    folder = landing.download(address, [*beside, *new], settings.home() / "landing")
    names, sidecars = [found.name for found in new], [found.name for found in beside]
    judged = list(delivery.judge(folder, names, sidecars, data, reporter))
    objects = {found.name: found for found in new}
    filed = tuple(
        row for one in judged if one.refused for row in _file(address, objects[one.name], one, folder, verdict)
    )
    good = [one for one in judged if one.taken]
    found = Collected(version, "", len(new), sum(one.clips for one in good), filed, late)
    if not good:
        return found
    needed = [sidecar for sidecar in beside if any(_says_of(sidecar.name, one) for one in good)]
    name, drafts = _name([objects[one.name] for one in good]), root / _DRAFTS
    drafts.mkdir(parents=True)
    archive, ledger = drafts / f"{name}.zip", drafts / f".{name}.json"
    delivery.pack(good, folder, [sidecar.name for sidecar in needed], archive)
    artifact.write_json(ledger, _ledger(address, good, objects, needed, data))
    put = recordings.replace if version == recordings.sample_version() else recordings.add
    done = put(root, archive, ledger)
    shutil.rmtree(drafts)
    return replace(found, version=done.version, batch=archive.name, unpushed=done.reason)


def _sweep(root: Path) -> None:
    """Remove what an interrupted call has left and data.dvc does not pin; the bucket still has what is in it."""
    shutil.rmtree(root / _DRAFTS, ignore_errors=True)
    own = [file for file in sorted((root / DATA).glob("*")) if _OURS.fullmatch(file.name)]
    if own:
        pinned = recordings.pinned_files(root)
        for file in own:
            if file.name not in pinned:
                file.unlink()


def _taken(root: Path) -> set[tuple[str, str]]:
    """Address and ETag of every object that was taken."""
    return {
        (name, entry["etag"])
        for ledger in ledgers(root).values()
        for part in ("objects", "sidecars")
        for name, entry in ledger[part].items()
    }


def ledgers(root: Path, revision: str | None = None) -> dict[str, dict[str, Any]]:
    """What each collected batch was made from, by the name of its archive, in the order in which they came.

    Args:
        root: a git repository with DVC.
        revision: whose data.dvc; the working tree's if not given.

    Raises:
        GltError: DVC's remote, which has them, cannot be had.
    """
    pinned = recordings.pinned_files(root, revision)
    names = {f"{match[1]}.zip": name for name in sorted(pinned) if (match := _LEDGER.fullmatch(name)) is not None}
    held = recordings.contents(root, names.values(), revision)
    return {batch: json.loads(held[name]) for batch, name in names.items()}


def _ledger(
    address: str, good: Iterable[Judged], objects: dict[str, Object], beside: Iterable[Object], data: DataConfig
) -> dict[str, Any]:
    return {
        "format": data.format,
        "objects": {
            landing.locate(address, one.name): {
                **{"etag": objects[one.name].etag, "size": objects[one.name].size, "clips": one.clips},
                "refused": len(one.refused),
            }
            for one in good
        },
        "sidecars": {landing.locate(address, found.name): {"etag": found.etag, "size": found.size} for found in beside},
    }


def _name(objects: Iterable[Object]) -> str:
    """Of a batch: the day of its newest object, and a hash of them all."""
    of = sorted((found.name, found.etag) for found in objects)
    newest = max(found.modified for found in objects).astimezone(dt.UTC)
    return f"{newest:%Y-%m-%d}-{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:8]}"


def _file(address: str, found: Object, judged: Judged, folder: Path, verdict: str) -> list[tuple[str, str, str]]:
    """Put what was not taken of an object into the quarantine, the verdict last; (address, check, reason) of each."""
    names = sorted({one.file for one in judged.refused})
    whole = names == [""]

    def contents() -> Iterator[tuple[str, bytes | Path]]:
        if whole:
            yield f"files/{PurePosixPath(found.name).name}", folder / found.name
        else:
            yield from ((f"files/{name}", content) for name, content in delivery.contents(judged, names))
        said = {
            **{"object": landing.locate(address, found.name), "etag": found.etag, "clips": judged.clips},
            "refused": [{"file": one.file, "check": one.check, "reason": one.reason} for one in judged.refused],
        }
        kind = "partly" if judged.taken else "refused"
        yield f"{kind}-{verdict}.json", (json.dumps(said, indent=1) + "\n").encode()

    place = landing.file(address, found, contents())
    return [
        (f"{place}/files/{one.file or PurePosixPath(found.name).name}", one.check, one.reason) for one in judged.refused
    ]


def _says_of(sidecar: str, judged: Judged) -> bool:
    """Whether a sidecar lies in a folder above a loose file."""
    loose = judged.batch is not None and not judged.batch.is_archive
    return loose and PurePosixPath(sidecar).parent in PurePosixPath(judged.name).parents


def _late(address: str, beside: Iterable[Object], taken: set[tuple[str, str]]) -> tuple[str, ...]:
    """Sidecars that no ledger has as they are, although recordings below their folder were taken."""
    late = []
    for found in beside:
        place = landing.locate(address, found.name)
        below = f"{place.rpartition('/')[0]}/"
        if (place, found.etag) not in taken and any(name.startswith(below) and name != place for name, _ in taken):
            late.append(place)
    return tuple(late)
