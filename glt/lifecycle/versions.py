"""Which data and which code a run is made from: DVC's content hash of the recordings, and a hash of our sources.

DVC is imported where it is needed: a command that only hashes a folder does not wait for it.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

import glt
from glt import artifact
from glt.data import sample
from glt.errors import GltError

DATA, PIN = "data", "data.dvc"
_SOURCES = ("glt", "components", "pipelines")
_SUFFIXES = {".py", ".yaml", ".html"}
_REVISION = re.compile(r"dvc\+(?P<repository>.+)@(?P<revision>[^@:\s]+)")
_SECONDS = 2.0  # how long a remote may take to answer


def code_version() -> str:
    """12 hex digits of the sources that a run executes: equal code, equal version, committed or not.

    GLT_CODE_VERSION overrides it (an image that was built from a known commit).
    """
    if given := os.environ.get("GLT_CODE_VERSION"):
        return given
    root = Path(glt.__file__).parents[1]
    state = hashlib.sha256()
    for folder in _SOURCES:
        for file in sorted(p for p in (root / folder).rglob("*") if p.suffix in _SUFFIXES):
            state.update(f"{file.relative_to(root).as_posix()}\0{artifact.file_sha256(file)}\n".encode())
    return state.hexdigest()[:12]


def content_md5(path: Path) -> str:
    """DVC's hash of a file (its MD5) or of a folder (MD5 of its listing, then ``.dir``).

    Raises:
        GltError: there is nothing at `path`.
    """
    path = Path(path)
    if path.is_dir():
        return _listing_md5((file.relative_to(path).as_posix(), _file_md5(file)) for file in _files(path))
    if not path.is_file():
        raise GltError(f"recordings {path}: no such file or folder")
    return _file_md5(path)


def data_version(recordings: str) -> str:
    """The content hash of recordings given as a local path or as ``dvc+<git repository>@<revision>``.

    Raises:
        GltError: no such path, repository or revision, or it has no data.dvc.
    """
    if not recordings.startswith("dvc+"):
        return content_md5(Path(recordings))
    repository, revision = _repository(recordings)
    import dvc.api

    try:
        text = dvc.api.read(PIN, repo=repository, rev=revision)
    except Exception as error:  # dvc, scmrepo and git each raise their own
        raise GltError(
            f"recordings {recordings}: cannot read {PIN} there ({_first_line(error)}); "
            "check the repository's address, the revision, and that you may read it"
        ) from error
    version: str = _pinned(text, f"{repository}@{revision}:{PIN}")["md5"]
    return version


def fetch(recordings: str, folder: Path) -> Path:
    """The recordings on this machine: a local path as it is, ``dvc+...`` downloaded to `folder`/data and checked.

    Raises:
        GltError: they cannot be had, or are not what the revision pins.
    """
    if not recordings.startswith("dvc+"):
        if not Path(recordings).exists():
            raise GltError(f"recordings {recordings}: no such file or folder")
        return Path(recordings)
    repository, revision = _repository(recordings)
    version, place = data_version(recordings), Path(folder) / DATA
    if place.exists() and content_md5(place) == version:
        return place
    from dvc.api import DVCFileSystem

    with _draft(place) as draft:
        try:
            DVCFileSystem(url=repository, rev=revision).get(DATA, str(draft / DATA), recursive=True)
        except Exception as error:  # s3fs, dvc and the network each raise their own
            raise GltError(
                f"recordings {recordings}: cannot be downloaded ({_first_line(error)}); check that the DVC remote of "
                "that revision is reachable, that `dvc push` was run there, and AWS_ACCESS_KEY_ID/AWS_SECRET_ACCESS_KEY"
            ) from error
        _check(draft / DATA, version, recordings)
        if place.exists():
            shutil.rmtree(place)
        (draft / DATA).rename(place)
    return place


def prepare(root: Path) -> Path:
    """The folder root/data as root/data.dvc pins it.

    It stays as it is if it matches; if it is missing it is pulled from the DVC remote where that is reachable, and
    otherwise, if the sample recordings are pinned, generated again. A folder that somebody changed is never touched.

    Raises:
        GltError: data/ does not match, or what is pinned cannot be had.
    """
    root = Path(root)
    pin, data = _read_pin(root), root / DATA
    if data.is_dir() and any(data.iterdir()):
        if not _matches(root, pin):
            raise GltError(
                f"{data} is not what {root / PIN} pins; to train on it run `make data RECORDINGS={DATA}`, "
                f"to have the pinned recordings again move {data} away and run this command once more"
            )
        return data
    reason = _pull(root)
    if data.is_dir() and any(data.iterdir()):
        _check(data, pin["md5"], str(root / PIN))
        return data
    if pin["md5"] != sample_version():
        raise GltError(
            f"{root / PIN} pins recordings ({pin['md5']}) that are not on this machine, and {reason}; "
            "make the remote reachable (docs/train.md), or train on your own: `make data RECORDINGS=path`"
        )
    with _draft(data) as draft:
        sample.write_sample(draft / DATA / sample.ARCHIVE)
        _check(draft / DATA, pin["md5"], "the sample recordings generated here")
        if data.is_dir():
            data.rmdir()
        (draft / DATA).rename(data)
    return data


@dataclass(frozen=True)
class Replaced:
    """What `replace` did: the new data version, whether DVC's remote has it, and if not, why."""

    version: str
    pushed: bool
    reason: str


def replace(root: Path, recordings: Path) -> Replaced:
    """Put the user's recordings in place of root/data, and pin them: ``dvc add``, and ``dvc push`` where it can.

    Args:
        root: a git repository with DVC.
        recordings: a file or folder, which stands as data/<name> afterwards (hard-linked where possible, so that it
            takes no second place on the disk); or root/data itself, whose changes are then pinned.

    Raises:
        GltError: no such recordings, or data/ holds changes that are pinned nowhere; all stays as it was.
    """
    root, recordings = Path(root).resolve(), Path(recordings).resolve()
    data = root / DATA
    if not recordings.exists():
        raise GltError(f"recordings {recordings}: no such file or folder")
    if recordings == data:
        _dvc(root, "add", DATA)
    else:
        _swap(root, data, recordings)
    reason = _unreachable(root)
    if not reason:
        try:
            _dvc(root, "push", PIN)
        except GltError as error:
            reason = str(error)
    return Replaced(_read_pin(root)["md5"], not reason, reason)


def sample_version() -> str:
    """The content hash of a folder that holds the sample recordings and nothing else."""
    return _listing_md5([(sample.ARCHIVE, sample.MD5)])


def _swap(root: Path, data: Path, recordings: Path) -> None:
    """Recordings in place of data/, added to DVC; if that fails, all as before."""
    if recordings.is_relative_to(data) or data.is_relative_to(recordings):
        raise GltError(f"recordings {recordings}: give a path that neither is in {data} nor contains it")
    pin = root / PIN
    if data.is_dir() and any(data.iterdir()) and not (pin.is_file() and _matches(root, _read_pin(root))):
        raise GltError(
            f"{data} holds changes that {pin} does not pin and that would be lost; "
            f"run `make data RECORDINGS={DATA}` to pin them, or move {data} away"
        )
    before = pin.read_bytes() if pin.is_file() else None
    with _draft(data) as draft:
        (draft / DATA).mkdir()
        _link(recordings, draft / DATA / recordings.name)
        if data.exists():
            data.rename(draft / "before")
        (draft / DATA).rename(data)
        try:
            _dvc(root, "add", DATA)
        except BaseException:
            shutil.rmtree(data)
            if (draft / "before").exists():
                (draft / "before").rename(data)
            if before is not None:
                artifact.write_bytes(pin, before)
            raise


def _link(source: Path, target: Path) -> None:
    def one(a: str, b: str) -> str:
        try:
            os.link(a, b)
        except OSError:  # another file system
            shutil.copy2(a, b)
        return b

    if source.is_dir():
        shutil.copytree(source, target, copy_function=one)
    else:
        one(str(source), str(target))


def _pull(root: Path) -> str:
    """Try to pull data/; why it did not come, or an empty text."""
    if reason := _unreachable(root):
        return reason
    try:
        _dvc(root, "pull", PIN)
    except GltError as error:
        return str(error)
    return ""


def _dvc(root: Path, *command: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *command, "-q"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise GltError(
            f"`dvc {' '.join(command)}` failed in {root}: {said[0] if said else f'exit {done.returncode}'}; "
            "check that it is a git repository with .dvc/, and the remote's address and credentials"
        )


def _unreachable(root: Path) -> str:
    """Why the DVC remote cannot be asked, or an empty text; takes at most about two seconds."""
    config = configparser.RawConfigParser(strict=False)
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    name = config.get("core", "remote", fallback="")
    section = f"'remote \"{name}\"'"
    if not name or not config.has_option(section, "url"):
        return f"{root / '.dvc' / 'config'} names no remote"
    url = config.get(section, "url")
    endpoint = config.get(section, "endpointurl", fallback=os.environ.get("AWS_ENDPOINT_URL", ""))
    if "://" not in url:
        place = (root / ".dvc" / url).resolve()
        return "" if place.is_dir() else f"the DVC remote {place} is not there"
    parts = urlsplit(endpoint or ("https://s3.amazonaws.com" if url.startswith("s3:") else url))
    port = parts.port or {"https": 443, "http": 80, "ssh": 22}.get(parts.scheme, 443)
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.create_connection((parts.hostname or "", port), timeout=_SECONDS).close()
        except OSError:
            return
        answers.append(True)

    asking = threading.Thread(target=ask, daemon=True)  # a name server may take longer than a connection
    asking.start()
    asking.join(_SECONDS + 0.5)
    return "" if answers else f"the DVC remote {endpoint or url} does not answer"


def _matches(root: Path, pin: dict[str, Any]) -> bool:
    """Whether data/ is what is pinned; files are hashed again only if a size or time changed since the last look."""
    data, seen = root / DATA, root / ".dvc" / "tmp" / "glt-verified.json"
    files = _files(data)
    stats = [file.stat() for file in files]
    if sum(stat.st_size for stat in stats) != pin["size"] or len(files) != pin["nfiles"]:
        return False
    look = [[file.relative_to(data).as_posix(), s.st_size, s.st_mtime_ns] for file, s in zip(files, stats, strict=True)]
    state = {"md5": pin["md5"], "files": look}
    if seen.is_file() and json.loads(seen.read_text()) == state:
        return True
    if content_md5(data) != pin["md5"]:
        return False
    artifact.write_json(seen, state)
    return True


def _check(path: Path, version: str, what: str) -> None:
    found = content_md5(path)
    if found != version:
        raise GltError(f"{what}: content is {found}, expected {version}; what was pinned and what came differ")


def _read_pin(root: Path) -> dict[str, Any]:
    pin = root / PIN
    if not pin.is_file():
        raise GltError(f"{pin}: no such file; run `make data RECORDINGS=path` to pin the recordings to train on")
    return _pinned(pin.read_text(encoding="utf-8"), str(pin))


def _pinned(text: str, origin: str) -> dict[str, Any]:
    """What a data.dvc pins: md5, size, nfiles, path."""
    try:
        out: dict[str, Any] = yaml.safe_load(text)["outs"][0]
        return {"md5": str(out["md5"]), "size": int(out["size"]), "nfiles": int(out.get("nfiles", 1))}
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
        raise GltError(f"{origin}: not a file that `dvc add data` wrote ({error!r}); restore it with git") from error


def _repository(recordings: str) -> tuple[str, str]:
    match = _REVISION.fullmatch(recordings)
    if match is None:
        raise GltError(f"recordings {recordings!r}: write dvc+<git repository>@<tag, branch or commit>")
    return match["repository"], match["revision"]


@contextmanager
def _draft(place: Path) -> Iterator[Path]:
    """A folder beside `place`, for what becomes `place` when it is whole; gone afterwards."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder:
        yield Path(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _file_md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _listing_md5(files: Iterable[tuple[str, str]]) -> str:
    """DVC's hash of a folder, from (path in it, MD5)."""
    listing = [{"md5": md5, "relpath": name} for name, md5 in sorted(files)]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
