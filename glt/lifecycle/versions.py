"""Which data and which code a run is made from: DVC's content hash of the recordings, and a hash of our sources.

DVC is imported where it is needed: a command that only hashes a folder does not wait for it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

import glt
from glt import artifact, settings
from glt.data.hashes import FileHashes
from glt.errors import GltError, first_line
from glt.lifecycle import landing, s3

DATA, PIN = "data", "data.dvc"
_DVC = "dvc+"
_SOURCES = ("glt", "components", "pipelines")
_SUFFIXES = {".py", ".yaml", ".html", ".txt"}
_REVISION = re.compile(r"dvc\+(?P<repository>.+)@(?P<revision>[^@:\s]+)")


def code_version() -> str:
    """12 hex digits of the sources that a run executes: equal code, equal version, committed or not.

    GLT_CODE_VERSION overrides it (an image that was built from a known commit).
    """
    if given := settings.code_version():
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
    path, hashes = Path(path), FileHashes(settings.home() / "hashes.json", "md5")
    if path.is_dir():
        found = listing_md5((file.relative_to(path).as_posix(), hashes.of(file)) for file in files(path))
    elif path.is_file():
        found = hashes.of(path)
    else:
        raise GltError(f"recordings {path}: no such file or folder")
    with suppress(OSError):  # a home that cannot be written only costs the next reading
        hashes.save()
    return found


def located(recordings: str) -> str:
    """Recordings so that they are found from any folder: a local path absolute, an address as it is."""
    if recordings.startswith((s3.SCHEME, _DVC)):
        return recordings
    return str(Path(recordings).expanduser().resolve())


def data_version(recordings: str) -> str:
    """The content hash of recordings: a local path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``.

    Raises:
        GltError: no such path, repository or revision, or it has no data.dvc.
    """
    if recordings.startswith(s3.SCHEME):
        return landing.data_version(recordings)
    if not recordings.startswith(_DVC):
        return content_md5(Path(recordings))
    address, revision = repository(recordings)
    import dvc.api

    try:
        text = dvc.api.read(PIN, repo=authorised(address), rev=revision)
    except Exception as error:  # dvc, scmrepo and git each raise their own
        raise GltError(
            f"recordings {recordings}: cannot read {PIN} there ({first_line(error)}); "
            "check the repository's address, the revision, and that you may read it"
        ) from error
    version: str = pinned(text, f"{address}@{revision}:{PIN}")["md5"]
    return version


def fixed(recordings: str) -> str:
    """The same recordings by an address that does not move: a branch or tag of ``dvc+...`` becomes its commit.

    Raises:
        GltError: the repository cannot be asked.
    """
    if not recordings.startswith(_DVC):
        return recordings
    address, revision = repository(recordings)
    from dulwich import porcelain

    try:
        refs = {name.decode(): found for name, found in porcelain.ls_remote(authorised(address)).refs.items() if found}
    except Exception as error:  # dulwich, urllib3 and the operating system each raise their own
        raise GltError(
            f"recordings {recordings}: {address} cannot be asked ({first_line(error)}); check it and your rights"
        ) from error
    for name in (f"refs/tags/{revision}^{{}}", f"refs/heads/{revision}", f"refs/tags/{revision}"):
        if name in refs:
            return f"{_DVC}{address}@{refs[name].decode()}"
    return recordings


def fetch(recordings: str, folder: Path) -> Path:
    """The recordings on this machine: a local path as it is, ``dvc+...`` downloaded to `folder`/data and checked.

    What an ``s3://`` address holds stays in GLT_HOME between runs: only new objects are fetched.

    Raises:
        GltError: they cannot be had, or are not what the revision pins.
    """
    if recordings.startswith(s3.SCHEME):
        return landing.fetch(recordings, settings.home() / "landing")
    if not recordings.startswith(_DVC):
        if not Path(recordings).exists():
            raise GltError(f"recordings {recordings}: no such file or folder")
        return Path(recordings)
    address, revision = repository(recordings)
    version, place = data_version(recordings), Path(folder) / DATA
    if place.exists() and content_md5(place) == version:
        return place
    from dvc.api import DVCFileSystem

    with draft(place) as aside:
        try:
            DVCFileSystem(url=authorised(address), rev=revision).get(DATA, str(aside / DATA), recursive=True)
        except Exception as error:  # s3fs, dvc and the network each raise their own
            raise GltError(
                f"recordings {recordings}: cannot be downloaded ({first_line(error)}); check that the DVC remote of "
                "that revision is reachable, that `dvc push` was run there, and AWS_ACCESS_KEY_ID/AWS_SECRET_ACCESS_KEY"
            ) from error
        check(aside / DATA, version, recordings)
        if place.exists():
            shutil.rmtree(place)
        (aside / DATA).rename(place)
    return place


def check(path: Path, version: str, what: str) -> None:
    """Refuse a path whose content hash is not `version`; `what` names it."""
    found = content_md5(path)
    if found != version:
        raise GltError(f"{what}: content is {found}, expected {version}; what was pinned and what came differ")


def pinned(text: str, origin: str) -> dict[str, Any]:
    """What a data.dvc pins: md5, size, nfiles, path."""
    try:
        out: dict[str, Any] = yaml.safe_load(text)["outs"][0]
        return {"md5": str(out["md5"]), "size": int(out["size"]), "nfiles": int(out.get("nfiles", 1))}
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
        raise GltError(f"{origin}: not a file that `dvc add data` wrote ({error!r}); restore it with git") from error


def repository(recordings: str) -> tuple[str, str]:
    """Address and revision of ``dvc+<git repository>@<revision>``.

    Raises:
        GltError: it is not written so.
    """
    match = _REVISION.fullmatch(recordings)
    if match is None:
        raise GltError(f"recordings {recordings!r}: write dvc+<git repository>@<tag, branch or commit>")
    return match["repository"], match["revision"]


@contextmanager
def draft(place: Path) -> Iterator[Path]:
    """A folder beside `place`, for what becomes `place` when it is whole; gone afterwards."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder:
        yield Path(folder)


def files(folder: Path) -> list[Path]:
    """The files below a folder, sorted."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def file_md5(path: Path) -> str:
    """Hex MD5 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def listing_md5(files: Iterable[tuple[str, str]]) -> str:
    """DVC's hash of a folder, from (path in it, MD5)."""
    listing = [{"md5": md5, "relpath": name} for name, md5 in sorted(files)]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def authorised(address: str) -> str:
    """The address of a git repository with GLT_GIT_USER and GLT_GIT_TOKEN in it, if it is asked over HTTP.

    The token stands in the environment, not in addresses, because those stand in every run.
    """
    scheme, separator, rest = address.partition("://")
    token = settings.git_token()
    if not token or scheme not in ("http", "https") or "@" in rest.partition("/")[0]:
        return address
    return f"{scheme}{separator}{quote(settings.git_user(), safe='')}:{quote(token, safe='')}@{rest}"
