"""Collect new recordings from the landing bucket into data/: check, pack and pin them.

A ledger beside each batch lists the delivered objects that it was made from. data.dvc pins both together, so a commit
has either both or neither. Rejected files are copied to the bucket's quarantine with the reason. Delivered objects are
never modified.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from glt import artifact, settings
from glt.data import delivery, splits
from glt.data.delivery import InspectedFile
from glt.data.machine import MachineFailure, is_machine_failure
from glt.errors import GltError, first_line
from glt.file_lock import file_lock
from glt.lifecycle import acceptance, dvc_hash, recordings
from glt.lifecycle.data_pin import DATA
from glt.lifecycle.landing import UNFETCHED, Landing, Rejected
from glt.lifecycle.ledger import BATCH
from glt.lifecycle.ledger import ledgers as ledgers
from glt.lifecycle.sources import bucket
from glt.lifecycle.sources.bucket import Object
from glt.recipe import DataConfig
from glt.reporter import Reporter

_DRAFTS = Path(".dvc") / "tmp" / "glt-collect"  # on the same disk as data/, and not part of the repository
_OWN_FILES = re.compile(rf"{BATCH}\.zip|\.{BATCH}\.json")


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
        account: number of files seen, taken, rejected and left out: new objects, and members of archives.
        quarantine_error: error that kept the reason of a rejected object from being stored; empty if all were.
    """

    version: str
    batch: str = ""
    objects: int = 0
    clips: int = 0
    rejected: tuple[Rejected, ...] = ()
    late_sidecars: tuple[str, ...] = ()
    push_error: str = ""
    account: dict[str, int] = field(default_factory=dict)
    quarantine_error: str = ""


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
    recordings.read_pin(root)  # raises if the folder is not a project, before anything is written
    with file_lock(root / ".dvc" / "tmp" / "glt-collect.lock", f"collecting into {root / DATA}"):
        return _collect(root, address, data, reporter)


def _collect(root: Path, address: str, data: DataConfig, reporter: Reporter) -> CollectionResult:
    _clean_up(root)
    splits.protocol(data)  # raises what ingest would otherwise raise for every recording
    landing = Landing.open(root, address, data)
    version = recordings.pinned_version(root)
    result = CollectionResult(version, late_sidecars=landing.late_sidecars())
    if not landing.new:
        return result
    drafts, cache = root / _DRAFTS, bucket.cache(address, settings.home() / "landing")
    drafts.mkdir(parents=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new.") as folder:
        view = Path(folder)
        failed = landing.fetch(view)
        sidecars = [name for name in landing.sidecars if name not in failed]

        def needed(accepted: Iterable[InspectedFile]) -> list[str]:
            loose = [one for one in accepted if one.is_loose]
            return [sidecar for sidecar in sidecars if any(_describes(sidecar, one) for one in loose)]

        def pack(accepted: Sequence[InspectedFile]) -> Path:
            archive = drafts / "draft.zip"
            delivery.pack(accepted, view, needed(accepted), archive)
            return archive

        names = [name for name in landing.new if name not in failed]
        examined = acceptance.examine(_inspect(view, names, sidecars, data, reporter), landing.collected, data, pack)
        unfetched = [acceptance.reject(name, UNFETCHED, failed[name]) for name in landing.new if name in failed]
        fresh = [one for one in unfetched if landing.new[one.name].key not in landing.unfetched]
        rejected, error = landing.quarantine([one for one in (*examined.files, *fresh) if one.rejected], view)
        accepted = [one for one in examined.files if one.accepted]
        result = replace(
            result,
            objects=len(examined.files) + len(fresh),
            clips=sum(one.clips for one in accepted),
            rejected=rejected,
            account=landing.account(examined, unfetched),
            quarantine_error=error,
        )
        if error and not accepted:
            raise GltError(error)
        if accepted:
            archive, known = pack(accepted), recordings.pinned_files(root)
            md5 = dvc_hash.file_md5(archive)
            name = _batch_name([landing.new[one.name] for one in accepted], known, md5)
            archive = archive.rename(drafts / f"{name}.zip")
            entry = drafts / f".{name}.json"
            artifact.write_json(entry, landing.ledger(examined, unfetched, needed(accepted)))
            pin = recordings.replace if version == recordings.sample_version() else recordings.add
            # A batch whose ledger somebody removed is there already.
            pinned = pin(root, *([] if archive.name in known else [archive]), entry)
            result = replace(result, version=pinned.version, batch=archive.name, push_error=pinned.reason)
    shutil.rmtree(drafts)
    return result


def _inspect(
    folder: Path, names: Sequence[str], sidecars: Sequence[str], data: DataConfig, reporter: Reporter
) -> list[InspectedFile]:
    """Inspect delivered files; a file that makes the inspection itself fail is found by bisection and rejected."""
    try:
        return list(delivery.inspect(folder, names, sidecars, data, reporter))
    except MachineFailure:
        raise
    except Exception as error:
        if is_machine_failure(error) or isinstance(error, MemoryError):
            raise GltError(f"{folder}: {first_line(error)}; correct it, then run again") from error
        if len(names) == 1:
            return [acceptance.reject(names[0], "reader", f"cannot be read ({first_line(error)})")]
    half = len(names) // 2
    parts = (names[:half], names[half:])
    return [one for part in parts for one in _inspect(folder, part, sidecars, data, reporter)]


def _clean_up(root: Path) -> None:
    """Remove what an interrupted call left behind and data.dvc does not pin; the bucket still has its contents.

    In data/ that is a copy of a draft of that call. A file of another origin stays, whatever its name.
    """
    drafts = [file for file in sorted((root / _DRAFTS).glob("*")) if _OWN_FILES.fullmatch(file.name)]
    copies = [root / DATA / draft.name for draft in drafts]
    if any(copy.is_file() for copy in copies):
        pinned = recordings.pinned_files(root)
        for draft, copy in zip(drafts, copies, strict=True):
            if copy.is_file() and copy.name not in pinned and filecmp.cmp(draft, copy, shallow=False):
                copy.unlink()
    shutil.rmtree(root / _DRAFTS, ignore_errors=True)


def _batch_name(objects: Sequence[Object], pinned: Mapping[str, str], md5: str) -> str:
    """The day of the newest object and a hash over all, so that no other archive than one with this MD5 has it."""
    contents: list[object] = [*sorted((one.name, one.etag) for one in objects)]
    newest = max(one.modified for one in objects)
    while True:
        name = f"{newest:%Y-%m-%d}-{hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:8]}"
        if pinned.get(f"{name}.zip", md5) == md5:
            return name
        contents.append(name)


def _describes(sidecar: str, inspected: InspectedFile) -> bool:
    """True if a sidecar is in a folder above a loose file."""
    return inspected.is_loose and PurePosixPath(sidecar).parent in PurePosixPath(inspected.name).parents
