"""The git repository that data.dvc is committed to. Uses dulwich, because the images do not contain git."""

from __future__ import annotations

import datetime as dt
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from glt.errors import GltError, wrap_errors
from glt.lifecycle import data_pin
from glt.lifecycle.credentials import with_credentials
from glt.lifecycle.data_pin import PIN


@contextmanager
def clone(url: str, branch: str) -> Iterator[Path]:
    """A working tree of a branch, deleted after the block.

    Raises:
        GltError: the branch cannot be cloned.
    """
    from dulwich import porcelain

    with TemporaryDirectory(prefix="glt-clone-") as folder:
        with _git_errors(f"{url}: branch {branch} cannot be cloned"):
            porcelain.clone(with_credentials(url), folder, branch=branch, errstream=io.BytesIO()).close()
        yield Path(folder)


def is_committed(root: Path) -> bool:
    """True if data.dvc is the same as in the last commit.

    Raises:
        GltError: `root` is not a git repository.
    """
    from dulwich.repo import Repo

    with _git_errors(f"{root}: not a readable git repository"), Repo(str(root)) as repo:
        try:
            committed = _file_of(repo, repo.head())
        except KeyError:  # no commit yet, or none with this file
            return False
        return committed == (Path(root) / PIN).read_bytes()


@dataclass(frozen=True)
class PinCommit:
    """A commit that changed data.dvc.

    Attributes:
        commit: its id.
        when: its date.
        subject: first line of its message.
        version: the content hash that it pins.
    """

    commit: str
    when: dt.datetime
    subject: str
    version: str


def history(root: Path) -> list[PinCommit]:
    """The commits that changed data.dvc, newest first; empty if `root` is not in a git repository.

    Raises:
        GltError: the history cannot be read.
    """
    from dulwich.errors import NotGitRepository
    from dulwich.repo import Repo

    try:
        with _git_errors(f"{root}: its history cannot be read"), Repo.discover(str(root)) as repo:
            walker = repo.get_walker(paths=[PIN.encode()])
            return [pin for entry in walker if (pin := _pin_commit(repo, entry.commit)) is not None]
    except GltError as error:
        if isinstance(error.__cause__, NotGitRepository | KeyError):  # no repository, or no commit yet
            return []
        raise


def head(root: Path) -> str:
    """The id of the commit that is checked out.

    Raises:
        GltError: there is none.
    """
    from dulwich.repo import Repo

    with _git_errors(f"{root}: has no commit"), Repo(str(root)) as repo:
        return repo.head().decode()


def commit(root: Path, message: str) -> str:
    """Commit data.dvc and nothing else; returns the commit's id.

    Raises:
        GltError: other changes are staged, which would be committed too, or git refuses.
    """
    from dulwich import porcelain

    remedy = f"correct that, then commit {PIN} with git"
    with _git_errors(f"{root}: {PIN} cannot be committed", remedy):
        staged = porcelain.status(str(root), untracked_files="no").staged
        others = sorted({os.fsdecode(path) for paths in staged.values() for path in paths} - {PIN})
        if others:
            raise GltError(f"{root}: {others[0]} is staged, too; commit or unstage it, run again")
        porcelain.add(str(root), [str(Path(root) / PIN)])
        return porcelain.commit(str(root), message=message, sign=False).decode()


def push(root: Path, url: str, branch: str) -> None:
    """Push the commits of a clone to its branch.

    Raises:
        GltError: the repository refuses, or has commits that the clone lacks.
    """
    from dulwich import porcelain

    remote = with_credentials(url)
    with _git_errors(f"{url}: branch {branch} cannot be pushed; if somebody else has pushed meanwhile, run again"):
        porcelain.push(str(root), remote, branch, outstream=io.BytesIO(), errstream=io.BytesIO())


@contextmanager
def _git_errors(description: str, remedy: str = "check the address, the branch and your rights") -> Iterator[None]:
    """Any exception as a GltError: dulwich, urllib3 and the operating system each raise their own."""
    from dulwich.file import FileLocked

    with wrap_errors(description, remedy):
        try:
            yield
        except FileLocked as error:
            lock = os.fsdecode(error.lockfilename)
            raise GltError(
                f"{description}: {lock} says that another git command is running; wait for it, or delete that file if "
                "none is"
            ) from error


def _pin_commit(repo: Any, commit: Any) -> PinCommit | None:
    """The pin of a commit; None if it removed data.dvc, or left something else there."""
    name = commit.id.decode()
    try:
        pin = data_pin.parse(_file_of(repo, commit.id), f"{name}:{PIN}")
    except (KeyError, GltError):
        return None
    when = dt.datetime.fromtimestamp(commit.commit_time, dt.UTC)
    subject = commit.message.decode(errors="replace").split("\n")[0]
    return PinCommit(name, when, subject, pin.md5)


def _file_of(repo: Any, commit: bytes) -> bytes:
    """The bytes of data.dvc in a commit.

    Raises:
        KeyError: there is no such commit, or it has no data.dvc.
    """
    _, blob = repo[repo[commit].tree].lookup_path(repo.__getitem__, PIN.encode())
    return bytes(repo[blob].data)
