"""Collect new recordings from the landing bucket into data/: check, pack and pin them.

A ledger beside each batch lists the delivered objects that it was made from. data.dvc pins both together, so a commit
has either both or neither. Rejected files are copied to the bucket's quarantine with the reason. Delivered objects are
never modified.
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
from typing import Any, NamedTuple

from glt import artifact, settings
from glt.data import delivery, segments
from glt.data.delivery import InspectedFile
from glt.data.listing import visible
from glt.file_lock import file_lock
from glt.lifecycle import quarantine, recordings
from glt.lifecycle.data_pin import DATA
from glt.lifecycle.sources import bucket
from glt.lifecycle.sources.bucket import Object
from glt.recipe import DataConfig
from glt.reporter import Reporter

_BATCH = r"\d{4}-\d{2}-\d{2}-[0-9a-f]{8}"
_LEDGER = re.compile(rf"\.({_BATCH})\.json")
_DRAFTS = Path(".dvc") / "tmp" / "glt-collect"  # on the same disk as data/, and not part of the repository
_OWN_FILES = re.compile(rf"{_BATCH}\.zip|\.{_BATCH}\.json")


class Rejected(NamedTuple):
    """A rejected file: where its copy is in the quarantine, the failed check, and the reason."""

    address: str
    check: str
    reason: str


@dataclass(frozen=True)
class CollectionResult:
    """The outcome of `collect`.

    Attributes:
        version: the content hash that data.dvc pins now.
        batch: name of the new archive in data/; empty if nothing was accepted.
        objects: number of new objects.
        clips: number of clips in the new archive.
        rejected: all files that were rejected.
        late_sidecars: addresses of sidecars that arrived or changed after the recordings they describe.
        push_error: why DVC's remote does not have what is pinned; empty if it has.
    """

    version: str
    batch: str = ""
    objects: int = 0
    clips: int = 0
    rejected: tuple[Rejected, ...] = ()
    late_sidecars: tuple[str, ...] = ()
    push_error: str = ""


def collect(root: Path, address: str, data: DataConfig, reporter: Reporter) -> CollectionResult:
    """Collect the new objects below an address.

    An object is new if no ledger has its key and ETag, and the same reader and checks have not rejected it before.

    Args:
        root: a git repository with DVC whose data.dvc pins the recordings so far; they need not be on this machine.
        address: ``s3://bucket/prefix``.
        data: the format, and the checks that ingest will make.
        reporter: receives progress.

    Raises:
        GltError: the bucket or DVC's remote is not available, data/ differs from what is pinned, or another process
            collects here. Nothing is lost: the same call continues.
    """
    root = Path(root).resolve()
    with file_lock(root / ".dvc" / "tmp" / "glt-collect.lock", f"collecting into {root / DATA}"):
        return _collect(root, address, data, reporter)


def _collect(root: Path, address: str, data: DataConfig, reporter: Reporter) -> CollectionResult:
    _clean_up(root)
    checks = hashlib.sha256(segments.settings(data).encode()).hexdigest()[:8]
    objects = [one for one in bucket.list_objects(address) if visible(one.name)]
    sidecars = [one for one in objects if delivery.is_sidecar(one.name, data)]
    collected = _collected_objects(root)
    reports = (f"rejected-{checks}.json", f"refused-{checks}.json")  # the present name and a former one
    known = quarantine.list_quarantined(address, reports)
    new = {
        one.name: one
        for one in objects
        if not delivery.is_sidecar(one.name, data)
        and (quarantine.object_address(address, one.name), one.etag) not in collected
        and (one.name, one.etag) not in known
    }
    version = recordings.pinned_version(root)
    late = _late_sidecars(address, sidecars, collected)
    if not new:
        return CollectionResult(version, late_sidecars=late)
    folder = bucket.download(address, [*sidecars, *new.values()], settings.home() / "landing")
    inspected = list(delivery.inspect(folder, new, [one.name for one in sidecars], data, reporter))
    rejected = tuple(
        row for one in inspected if one.rejected for row in _quarantine(address, new[one.name], one, folder, checks)
    )
    accepted = [one for one in inspected if one.accepted]
    result = CollectionResult(version, "", len(new), sum(one.clips for one in accepted), rejected, late)
    if not accepted:
        return result
    needed = [sidecar for sidecar in sidecars if any(_describes(sidecar.name, one) for one in accepted)]
    name, drafts = _batch_name([new[one.name] for one in accepted]), root / _DRAFTS
    drafts.mkdir(parents=True)
    archive, ledger = drafts / f"{name}.zip", drafts / f".{name}.json"
    delivery.pack(accepted, folder, [sidecar.name for sidecar in needed], archive)
    artifact.write_json(ledger, _ledger(address, accepted, new, needed, data))
    pin = recordings.replace if version == recordings.sample_version() else recordings.add
    pinned = pin(root, archive, ledger)
    shutil.rmtree(drafts)
    return replace(result, version=pinned.version, batch=archive.name, push_error=pinned.reason)


def _clean_up(root: Path) -> None:
    """Remove what an interrupted call left behind and data.dvc does not pin; the bucket still has its contents."""
    shutil.rmtree(root / _DRAFTS, ignore_errors=True)
    own = [file for file in sorted((root / DATA).glob("*")) if _OWN_FILES.fullmatch(file.name)]
    if own:
        pinned = recordings.pinned_files(root)
        for file in own:
            if file.name not in pinned:
                file.unlink()


def _collected_objects(root: Path) -> set[tuple[str, str]]:
    """Address and ETag of every object in the ledgers."""
    return {
        (name, entry["etag"])
        for ledger in ledgers(root).values()
        for part in ("objects", "sidecars")
        for name, entry in ledger[part].items()
    }


def ledgers(root: Path, revision: str | None = None) -> dict[str, dict[str, Any]]:
    """The ledger of each collected batch by the name of its archive, the oldest first.

    Args:
        root: a git repository with DVC.
        revision: the commit whose data.dvc is read; the working tree's if not given.

    Raises:
        GltError: DVC's remote, which stores the ledgers, is not available.
    """
    pinned = recordings.pinned_files(root, revision)
    names = {f"{match[1]}.zip": name for name in sorted(pinned) if (match := _LEDGER.fullmatch(name)) is not None}
    texts = recordings.contents(root, names.values(), revision)
    return {batch: json.loads(texts[name]) for batch, name in names.items()}


def _ledger(
    address: str,
    accepted: Iterable[InspectedFile],
    objects: dict[str, Object],
    sidecars: Iterable[Object],
    data: DataConfig,
) -> dict[str, Any]:
    return {
        "format": data.format,
        "objects": {
            quarantine.object_address(address, one.name): {
                "etag": objects[one.name].etag,
                "size": objects[one.name].size,
                "clips": one.clips,
                "rejected": len(one.rejected),
            }
            for one in accepted
        },
        "sidecars": {
            quarantine.object_address(address, one.name): {"etag": one.etag, "size": one.size} for one in sidecars
        },
    }


def _batch_name(objects: Iterable[Object]) -> str:
    """The day of the newest object, and a hash over all."""
    contents = sorted((one.name, one.etag) for one in objects)
    newest = max(one.modified for one in objects).astimezone(dt.UTC)
    return f"{newest:%Y-%m-%d}-{hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:8]}"


def _quarantine(address: str, delivered: Object, inspected: InspectedFile, folder: Path, checks: str) -> list[Rejected]:
    """Copy what is rejected of an object to the quarantine, the JSON with the reasons last."""
    names = sorted({one.file for one in inspected.rejected})
    whole = names == [""]

    def contents() -> Iterator[tuple[str, bytes | Path]]:
        if whole:
            yield f"files/{PurePosixPath(delivered.name).name}", folder / delivered.name
        else:
            yield from ((f"files/{name}", content) for name, content in delivery.contents(inspected, names))
        reasons = {
            "object": quarantine.object_address(address, delivered.name),
            "etag": delivered.etag,
            "clips": inspected.clips,
            "rejected": [{"file": one.file, "check": one.check, "reason": one.reason} for one in inspected.rejected],
        }
        kind = "partly" if inspected.accepted else "rejected"
        yield f"{kind}-{checks}.json", (json.dumps(reasons, indent=1) + "\n").encode()

    target = quarantine.store(address, delivered, contents())
    return [
        Rejected(f"{target}/files/{one.file or PurePosixPath(delivered.name).name}", one.check, one.reason)
        for one in inspected.rejected
    ]


def _describes(sidecar: str, inspected: InspectedFile) -> bool:
    """True if a sidecar is in a folder above a loose file."""
    return inspected.is_loose and PurePosixPath(sidecar).parent in PurePosixPath(inspected.name).parents


def _late_sidecars(address: str, sidecars: Iterable[Object], collected: set[tuple[str, str]]) -> tuple[str, ...]:
    """Addresses of sidecars that are in no ledger in their present form, although recordings below their folder are."""
    late = []
    for sidecar in sidecars:
        location = quarantine.object_address(address, sidecar.name)
        below = f"{location.rpartition('/')[0]}/"
        if (location, sidecar.etag) not in collected and any(
            name.startswith(below) and name != location for name, _ in collected
        ):
            late.append(location)
    return tuple(late)
