"""The recordings that this project trains on: the folder ``data/``, as ``data.dvc`` pins it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glt import artifact
from glt.data import sample
from glt.errors import GltError, first_line, wrap_errors
from glt.lifecycle import data_pin, dvc_hash, dvc_remote, repository
from glt.lifecycle.data_pin import DATA, PIN, DataPin

# dvc, scmrepo and the remote's driver each raise their own exceptions.
_REMOTE_REMEDY = "make the DVC remote reachable (docs/operate.md, New recordings)"


def prepare(root: Path) -> Path:
    """Bring root/data to what root/data.dvc pins; returns its path.

    A folder that matches is left alone. Missing files are pulled from the DVC remote; the sample recordings are not:
    they are generated again. A folder with other changes is never touched.

    Raises:
        GltError: data/ has other changes, or the pinned recordings are not available.
    """
    root = Path(root)
    pin, data = read_pin(root), root / DATA
    if data.is_dir() and any(data.iterdir()):
        if not _matches(root, pin) and not (_is_part(root) and not _ask_remote(root, "pull") and _matches(root, pin)):
            raise GltError(
                f"{data} is not what {root / PIN} pins; to train on it run `make data RECORDINGS={DATA}`, "
                f"to have the pinned recordings again move {data} away and run this command once more"
            )
        return data
    if pin.md5 != sample_version():
        reason = _ask_remote(root, "pull")
        if data.is_dir() and any(data.iterdir()):
            dvc_hash.verify(data, pin.md5, str(root / PIN))
            return data
        raise GltError(
            f"{root / PIN} pins recordings ({pin.md5}) that are not on this machine, and {reason}; "
            "make the remote reachable (docs/operate.md, New recordings), or train on your own: "
            "`make data RECORDINGS=path`"
        )
    _check_folder(data)
    with _draft(data) as draft:
        sample.write_sample(draft.folder / sample.ARCHIVE)
        dvc_hash.verify(draft.folder, pin.md5, "the sample recordings generated here")
        draft.commit()
    return data


@dataclass(frozen=True)
class PinResult:
    """The outcome of pinning recordings.

    Attributes:
        version: the data version that is pinned now.
        pushed: whether the DVC remote has it.
        reason: why not, if it does not.
    """

    version: str
    pushed: bool
    reason: str


def replace(root: Path, *recordings: Path) -> PinResult:
    """Replace the contents of root/data by the user's recordings, pin them (``dvc add``) and try to push them.

    Args:
        root: a git repository with DVC.
        recordings: files or folders that become data/<name>, hard-linked where possible so that they use no extra
            disk space; or root/data itself, whose changes are then pinned.

    Raises:
        GltError: there are no such recordings, or data/ has changes that are not pinned; nothing was changed.
    """
    root, paths = Path(root).resolve(), [Path(path).resolve() for path in recordings]
    data = root / DATA
    for path in paths:
        if not path.exists():
            raise GltError(f"recordings {path}: no such file or folder")
    if paths == [data]:
        _dvc(root, "add", DATA)
    else:
        _swap(root, data, paths)
    return push(root)


def push(root: Path) -> PinResult:
    """Push the pinned recordings, if the DVC remote can be reached."""
    reason = _ask_remote(root, "push")
    return PinResult(read_pin(root).md5, not reason, reason)


def add(root: Path, *batches: Path) -> PinResult:
    """Add new batches to the recordings in root/data and pin them.

    The existing recordings need not be on this machine.

    Args:
        root: a git repository with DVC, whose data.dvc pins the existing recordings.
        batches: files or folders that become data/<name> (hard-linked where possible).

    Raises:
        GltError: there is no such batch, or data.dvc already has its name; nothing was changed.
    """
    root = Path(root).resolve()
    data, paths = root / DATA, {batch.name: batch.resolve() for batch in map(Path, batches)}
    read_pin(root)
    for batch in paths.values():
        if not batch.exists():
            raise GltError(f"recordings {batch}: no such file or folder")
    _check_disjoint(data, paths.values())
    # If all of them are here, the remote, which may be away, need not be asked.
    complete = data.is_dir() and _matches(root, read_pin(root))
    names = set() if complete else {name.split("/")[0] for name in pinned_files(root)}
    for name, batch in paths.items():
        if (data / name).exists() or name in names:
            raise GltError(f"recordings {batch}: {root / PIN} has a {name} already; give the new batch another name")
    with _draft(data) as draft:
        data.mkdir(exist_ok=True)
        for name, batch in paths.items():
            _link(batch, draft.folder / name)
        for name in paths:
            (draft.folder / name).rename(data / name)
    try:
        _dvc(root, "add", *([DATA] if complete else [f"{DATA}/{name}" for name in paths]))
    except BaseException:
        for name in paths:
            _remove(data / name)
        raise
    return push(root)


def pinned_version(root: Path) -> str:
    """The content hash that root/data.dvc pins."""
    return read_pin(root).md5


def sample_version() -> str:
    """The content hash of a folder that holds the sample recordings and nothing else."""
    return dvc_hash.listing_md5([(sample.ARCHIVE, sample.MD5)])


@contextmanager
def _draft(data: Path) -> Iterator[artifact.Draft]:
    """A draft of the folder data/; those of killed processes are deleted first."""
    artifact.sweep(data.parent)
    with artifact.draft(data) as draft:
        yield draft


def _check_folder(data: Path) -> None:
    if data.is_symlink() or (data.exists() and not data.is_dir()):
        raise GltError(f"{data} is a link or a file, and would be lost; move it away")


def _check_disjoint(data: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_relative_to(data) or data.is_relative_to(path):
            raise GltError(f"recordings {path}: give a path that neither is in {data} nor contains it")


def _swap(root: Path, data: Path, recordings: Sequence[Path]) -> None:
    """Replace data/ by recordings and add it to DVC; if that fails, restore it."""
    _check_disjoint(data, recordings)
    _check_folder(data)
    pin = root / PIN
    if data.is_dir() and any(data.iterdir()):
        if not (pin.is_file() and _matches(root, read_pin(root))):
            raise GltError(
                f"{data} holds changes that {pin} does not pin and that would be lost; "
                f"run `make data RECORDINGS={DATA}` to pin them, or move {data} away"
            )
        if pinned_version(root) != sample_version():
            _dvc(root, "add", DATA)  # DVC's cache need not have what somebody copied here
    before, is_new = pin.read_bytes() if pin.is_file() else None, not data.exists()
    try:
        with _draft(data) as draft:
            data.mkdir(exist_ok=True)
            for path in recordings:
                _link(path, draft.folder / path.name)
            draft.commit()
            try:
                _dvc(root, "add", DATA)
            except BaseException:
                draft.commit()
                if before is not None:
                    artifact.write_bytes(pin, before)
                raise
    except BaseException:
        if is_new:
            with suppress(OSError):  # it holds something
                data.rmdir()
        raise


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=artifact.link)
    else:
        artifact.link(str(source), str(target))


def _ask_remote(root: Path, command: Literal["pull", "push"]) -> str:
    """Try to pull or push data/; returns the reason if that failed, or an empty string."""
    if reason := dvc_remote.problem(root, read_pin(root).md5 if command == "pull" else ""):
        return reason
    try:
        _dvc(root, command, PIN)
    except GltError as error:
        return str(error)
    return ""


def _dvc(root: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command], cwd=root, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[:1]
        words = first_line(GltError("; ".join(dict.fromkeys(said)))) if said else ""
        raise GltError(
            f"`dvc {' '.join(command)}` failed in {root}: {words or f'exit {done.returncode}'}; "
            "check that it is a git repository with .dvc/, and the remote's address and credentials"
        )


def remote_problem(root: Path) -> str:
    """The reason why the DVC remote cannot be read, or an empty string; takes half a minute at most."""
    pin = Path(root) / PIN
    return dvc_remote.problem(Path(root), read_pin(root).md5 if pin.is_file() else "")


def _matches(root: Path, pin: DataPin) -> bool:
    """True if data/ is what is pinned; files are hashed again only if a size or time changed since the last call."""
    data, seen = root / DATA, root / ".dvc" / "tmp" / "glt-verified.json"
    files = dvc_hash.list_files(data)
    stats = [file.stat() for file in files]
    if sum(stat.st_size for stat in stats) != pin.size or len(files) != pin.files:
        return False
    look = [[file.relative_to(data).as_posix(), s.st_size, s.st_mtime_ns] for file, s in zip(files, stats, strict=True)]
    state = {"md5": pin.md5, "files": look}
    with suppress(OSError, ValueError, RecursionError):  # a damaged cache is written again
        if json.loads(seen.read_bytes()) == state:
            return True
    if dvc_hash.content_md5(data) != pin.md5:
        return False
    artifact.write_json(seen, state)
    return True


def pinned_files(root: Path, revision: str | None = None) -> dict[str, str]:
    """The MD5 of each file that data.dvc pins, by its path in data/; the files need not be on this machine.

    Args:
        root: a git repository with DVC.
        revision: whose data.dvc; the working tree's if not given.

    Raises:
        GltError: the DVC remote, which has the list, cannot be read.
    """
    if _pinned_version(root, revision) == sample_version():
        return {sample.ARCHIVE: sample.MD5}  # they are generated: no remote need have their list
    from dvc.api import DVCFileSystem

    with wrap_errors(f"{root / PIN}: the pinned files cannot be listed", _REMOTE_REMEDY):
        entries = DVCFileSystem(url=str(root), rev=revision).find(DATA, detail=True)
        return {
            name.removeprefix(f"{DATA}/"): str(entry["dvc_info"]["md5"])
            for name, entry in entries.items()
            if entry.get("dvc_info")
        }


def _pinned_version(root: Path, revision: str | None) -> str:
    """The content hash that data.dvc pins at a revision; empty if it is unknown without DVC."""
    if revision is None:
        return pinned_version(root)
    return next((pin.version for pin in repository.history(root) if pin.commit == revision), "")


def contents(root: Path, files: Mapping[str, str], revision: str | None = None) -> dict[str, bytes]:
    """The bytes of pinned files, by their paths in data/: from data/, DVC's cache or its remote.

    Args:
        root: a git repository with DVC.
        files: the pinned MD5 of each file by its path in data/.
        revision: that pins them; the working tree if not given.

    Raises:
        GltError: a file is in none of them, or the one in data/ is not the pinned one.
    """
    here = root / DATA
    local = {name: (here / name).read_bytes() for name in files if revision is None and (here / name).is_file()}
    for name, content in local.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != files[name]:
            raise GltError(
                f"{here / name}: not the file that {root / PIN} pins; move it away, and the pinned one is fetched again"
            )
    missing = [name for name in files if name not in local]
    if not missing:
        return local
    from dvc.api import DVCFileSystem

    description = f"{root / PIN}: {len(missing)} pinned files, such as {DATA}/{missing[0]}, cannot be read"
    with wrap_errors(description, _REMOTE_REMEDY):
        system = DVCFileSystem(url=str(root), rev=revision)
        return local | {name: system.cat_file(f"{DATA}/{name}") for name in missing}


def _is_part(root: Path) -> bool:
    """True if data/ holds only some of the pinned files, unchanged, as after adding a batch without the others."""
    try:
        pinned = pinned_files(root)
    except GltError:
        return False
    data = root / DATA
    return all(
        pinned.get(file.relative_to(data).as_posix()) == dvc_hash.file_md5(file) for file in dvc_hash.list_files(data)
    )


def read_pin(root: Path) -> DataPin:
    """Read root/data.dvc.

    Raises:
        GltError: there is no such file, or `dvc add` did not write it.
    """
    pin = Path(root) / PIN
    if not pin.is_file():
        raise GltError(f"{pin}: no such file; run `make data RECORDINGS=path` to pin the recordings to train on")
    return data_pin.parse(pin.read_bytes(), str(pin))
