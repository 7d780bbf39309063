"""Recordings that a commit of a git repository pins by data.dvc, and that its DVC remote holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glt.errors import GltError, wrap_errors
from glt.lifecycle import data_pin, dvc_hash
from glt.lifecycle.credentials import with_credentials
from glt.lifecycle.data_pin import DATA, PIN
from glt.lifecycle.dvc_remote import check_listing
from glt.lifecycle.sources.address import DVC, repository_and_revision

# dvc, scmrepo, dulwich, s3fs and the network each raise their own exceptions.
_READ_REMEDY = "check the repository's address and that you may read it"
_DOWNLOAD_REMEDY = (
    "check that the DVC remote of that revision is reachable, that `dvc push` was run there, "
    "and AWS_ACCESS_KEY_ID/AWS_SECRET_ACCESS_KEY"
)


@dataclass(frozen=True)
class RevisionSource:
    """A commit's recordings.

    Attributes:
        repository: address of the git repository.
        commit: id of the commit.
        version: DVC's content hash, from the commit's data.dvc.
    """

    repository: str
    commit: str
    version: str

    @property
    def address(self) -> str:
        """``dvc+<git repository>@<commit>``."""
        return f"{DVC}{self.repository}@{self.commit}"

    def fetch(self, folder: Path) -> Path:
        """The recordings in `folder`/data, downloaded from the DVC remote and verified.

        Raises:
            GltError: they cannot be downloaded, or are not what the commit pins.
        """
        target = Path(folder) / DATA
        if target.exists() and dvc_hash.content_md5(target) == self.version:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{DATA}.") as draft:
            downloaded = Path(draft) / DATA
            with wrap_errors(f"recordings {self.address}: cannot be downloaded", _DOWNLOAD_REMEDY):
                files = _open(self.repository, self.commit)
                check_listing(files.repo, self.version, f"recordings {self.address}")
                files.get(DATA, str(downloaded), recursive=True)
            dvc_hash.verify(downloaded, self.version, f"recordings {self.address}")
            if target.exists():
                shutil.rmtree(target)
            downloaded.rename(target)
        return target


def find(recordings: str) -> RevisionSource:
    """Resolve ``dvc+<git repository>@<revision>`` to a commit, and read its data.dvc.

    Raises:
        GltError: the address is malformed, or there is no such repository, revision or data.dvc.
    """
    repository, revision = repository_and_revision(recordings)
    from dvc.scm import RevError

    with wrap_errors(f"recordings {recordings}: cannot read {PIN} there", _READ_REMEDY):
        try:
            files = _open(repository, revision)
            commit, text = str(files.repo.get_rev()), files.read_text(PIN)
        except RevError as error:
            raise GltError(
                f"recordings {recordings}: the repository has no branch, tag or commit {revision}; "
                "`git ls-remote` lists them"
            ) from error
        except FileNotFoundError as error:
            raise GltError(
                f"recordings {recordings}: that revision has no {PIN}; name one that pins recordings"
            ) from error
    return RevisionSource(repository, commit, data_pin.parse(text, f"{repository}@{revision}:{PIN}").md5)


def _open(repository: str, revision: str) -> Any:
    """The files of a revision, as DVC's file system."""
    from dvc.api import DVCFileSystem

    os.environ.setdefault("GIT_TERMINAL_PROMPT", "0")  # a wrong token is an error, not a reason to ask for a password
    return DVCFileSystem(url=with_credentials(repository), rev=revision)
