"""The git repository that data.dvc is committed to. Works without git itself, which no image of ours has."""

from __future__ import annotations

import datetime as dt
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from glt.errors import GltError, first_line
from glt.lifecycle import data_pin
from glt.lifecycle.credentials import with_credentials
from glt.lifecycle.data_pin import PIN

T = TypeVar("T")


@contextmanager
def clone(url: str, branch: str) -> Iterator[Path]:
    """A working tree of a branch, gone afterwards.

    Raises:
        GltError: it cannot be had.
    """
    from dulwich import porcelain

    with TemporaryDirectory(prefix="glt-clone-") as folder:
        _asked(
            f"{url}: branch {branch} cannot be cloned",
            lambda: porcelain.clone(with_credentials(url), folder, branch=branch, errstream=io.BytesIO()).close(),
        )
        yield Path(folder)


def is_committed(root: Path) -> bool:
    """Whether data.dvc is as in the last commit.

    Raises:
        GltError: not a git repository.
    """
    from dulwich.repo import Repo

    def committed() -> bool:
        with Repo(str(root)) as repo:
            objects: Any = repo
            _, held = objects[objects[repo.head()].tree].lookup_path(objects.__getitem__, PIN.encode())
            return bool(objects[held].data == (Path(root) / PIN).read_bytes())

    try:
        return committed()
    except KeyError:  # no commit yet, or none that has the file
        return False
    except Exception as error:
        raise GltError(f"{root}: not a git repository that can be read ({first_line(error)})") from error


@dataclass(frozen=True)
class Pinned:
    """A commit that changed data.dvc.

    Attributes:
        commit: its id.
        when: it was made.
        subject: first line of its message.
        version: the content hash that it pins.
    """

    commit: str
    when: dt.datetime
    subject: str
    version: str


def history(root: Path) -> list[Pinned]:
    """The commits that changed data.dvc, the newest first; none if this is no git repository.

    Raises:
        GltError: it cannot be read.
    """
    from dulwich.errors import NotGitRepository
    from dulwich.repo import Repo

    def found() -> list[Pinned]:
        with Repo.discover(str(root)) as repo:
            objects: Any = repo
            pins = []
            for entry in repo.get_walker(paths=[PIN.encode()]):
                commit: Any = entry.commit
                try:
                    _, held = objects[commit.tree].lookup_path(objects.__getitem__, PIN.encode())
                except KeyError:  # the commit removed it
                    continue
                pin = data_pin.parse(objects[held].data.decode(), f"{commit.id.decode()}:{PIN}")
                when = dt.datetime.fromtimestamp(commit.commit_time, dt.UTC)
                subject = commit.message.decode(errors="replace").split("\n")[0]
                pins.append(Pinned(commit.id.decode(), when, subject, pin.md5))
            return pins

    try:
        return _asked(f"{root}: its history cannot be read", found)
    except GltError as error:
        if isinstance(error.__cause__, NotGitRepository | KeyError):  # none here, or no commit yet
            return []
        raise


def head(root: Path) -> str:
    """The id of the commit that a working tree is of."""
    from dulwich.repo import Repo

    def found() -> str:
        with Repo(str(root)) as repo:
            return repo.head().decode()

    return _asked(f"{root}: has no commit", found)


def commit(root: Path, message: str) -> str:
    """Commit data.dvc and nothing else; the commit's id.

    Raises:
        GltError: other changes are staged, which would go with it, or git refuses.
    """
    from dulwich import porcelain

    def committed() -> str:
        staged = porcelain.status(str(root), untracked_files="no").staged
        others = sorted({os.fsdecode(path) for paths in staged.values() for path in paths} - {PIN})
        if others:
            raise GltError(
                f"{root}: {others[0]} is staged and would be committed, too; commit or unstage it, run again"
            )
        porcelain.add(str(root), [str(Path(root) / PIN)])
        return porcelain.commit(str(root), message=message, sign=False).decode()

    return _asked(f"{root}: {PIN} cannot be committed", committed)


def push(root: Path, url: str, branch: str) -> None:
    """Push what is committed in a clone to the branch it is of.

    Raises:
        GltError: the repository refuses, or has what the clone has not.
    """
    from dulwich import porcelain

    remote = with_credentials(url)
    _asked(
        f"{url}: branch {branch} cannot be pushed; if somebody else has pushed meanwhile, run again",
        lambda: porcelain.push(str(root), remote, branch, outstream=io.BytesIO(), errstream=io.BytesIO()),
    )


def _asked(what: str, question: Callable[[], T]) -> T:
    """An answer of git, or why there is none."""
    try:
        return question()
    except GltError:
        raise
    except Exception as error:  # dulwich, urllib3 and the operating system each raise their own
        raise GltError(f"{what} ({first_line(error)}); check the address, the branch and your rights") from error
