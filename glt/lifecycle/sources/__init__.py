"""Sources of recordings: a folder or file on this machine, a bucket, or a DVC revision.

`resolve` lists them once. The source that it returns names exactly those recordings: its version is a hash of that
listing, and what it fetches is that listing, whatever arrives meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from glt import settings
from glt.lifecycle import s3
from glt.lifecycle.sources import address, bucket, local, revision


class Source(Protocol):
    """Recordings as they were when they were listed."""

    @property
    def address(self) -> str:
        """Their address; resolved again, it gives the same recordings wherever the store keeps them."""

    @property
    def version(self) -> str:
        """Their data version: DVC's content hash, or ``s3-`` and a hash of the bucket's listing."""

    def fetch(self, folder: Path) -> Path:
        """The recordings as files: below `folder` if they have to be downloaded, otherwise where they are.

        Raises:
            GltError: they cannot be fetched, or have changed since they were listed.
        """


def resolve(recordings: str, version: str = "") -> Source:
    """List recordings.

    Args:
        recordings: a path, ``s3://bucket/prefix``, or ``dvc+<git repository>@<branch, tag or commit>``.
        version: a data version that they had at an earlier listing. Objects that arrived in a bucket since then are
            left out; check the source's own version for any other change.

    Raises:
        GltError: there are none, or they cannot be listed.
    """
    address.refuse_account(recordings)
    if recordings.startswith(s3.SCHEME):
        return bucket.list_source(recordings, version)
    if recordings.startswith(address.DVC):
        return revision.find(recordings)
    return local.list_source(address.local_path(recordings))


@contextmanager
def local_folder(source: Source) -> Iterator[Path]:
    """Provide the recordings as files that do not change within the block.

    Objects of a bucket stay in GLT_HOME/landing, so that the next run fetches only what is new; a DVC revision is
    deleted after the block.

    Raises:
        GltError: as `Source.fetch`; or, at the end of the block, a file has changed meanwhile.
    """
    with tempfile.TemporaryDirectory() as temporary:
        is_bucket = isinstance(source, bucket.BucketSource)
        files = source.fetch(settings.home() / "landing" if is_bucket else Path(temporary))
        listed = source if isinstance(source, local.LocalSource) else local.list_source(files)
        yield listed.path
        listed.ensure_unchanged()
