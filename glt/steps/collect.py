"""The step `collect`: new recordings from the landing bucket into data/, pinned by data.dvc and committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from glt import text
from glt.errors import GltError
from glt.lifecycle import collection, data_pin, recordings, repository
from glt.lifecycle.collection import CollectionResult
from glt.lifecycle.sources.address import repository_and_revision
from glt.recipe import load
from glt.reporter import ConsoleReporter


def collect(address: str, recipe: str, into: str = "", commit: bool = False) -> str:
    """Collect new recordings from the landing bucket: check them, pack one archive in data/, pin and push it.

    Rejected files are copied to the bucket's quarantine with the reason. After an interruption the same command
    continues.

    Args:
        address: ``s3://bucket/prefix`` that recordings are delivered to.
        recipe: name, path or text of a recipe; its data section gives format and checks.
        into: ``dvc+<git repository>@<branch>`` to clone and push the new data.dvc to; the project in the current
            folder if not given.
        commit: commit data.dvc in the current folder instead of printing it.

    Returns:
        The recordings to train on: ``dvc+<git repository>@<commit>``, or the data version.

    Raises:
        GltError: the bucket, DVC's remote or the repository is not available; nothing is lost.
    """
    settings = load(recipe)
    with _working_tree(into) as (root, url, branch):
        result = collection.collect(root, address, settings.data, ConsoleReporter())
        _print(address, result)
        if repository.is_committed(root):
            return f"dvc+{url}@{repository.head(root)}" if url else result.version
        push_error = result.push_error if result.batch else recordings.push(root).reason
        if push_error and (url or commit):
            raise GltError(
                f"{root}: not committed, because DVC's remote lacks what data.dvc pins: {push_error}; run again"
            )
        if url or commit:
            revision = repository.commit(root, f"Recordings from {address}: {result.batch or 'collected earlier'}")
            _console().print(f"{data_pin.PIN} is committed: {revision[:10]}")
        if url:
            repository.push(root, url, branch)
            return f"dvc+{url}@{revision}"
        if not commit:
            print((root / data_pin.PIN).read_text(encoding="utf-8"), end="")
            print(f"commit {data_pin.PIN}" + (f"; not pushed: {push_error}" if push_error else " and push it"))
    return result.version


@contextmanager
def _working_tree(into: str) -> Iterator[tuple[Path, str, str]]:
    """Folder, address and branch of the project; no address for the current folder."""
    if not into:
        yield Path.cwd(), "", ""
        return
    url, branch = repository_and_revision(into)
    with repository.clone(url, branch) as root:
        yield root, url, branch


def _print(address: str, result: CollectionResult) -> None:
    if not result.objects:
        _line(f"{address}: nothing new")
    else:
        batch = f"data/{result.batch}: {result.clips:,} clips" if result.batch else "nothing to take"
        _line(f"{address}: {result.objects:,} new objects, {batch}, {len(result.rejected):,} rejected")
    if account := result.account:
        _line("  {seen:,} files seen: {taken:,} taken, {rejected:,} rejected, {left_out:,} left out".format(**account))
    for check, count in Counter(one.check for one in result.rejected).most_common():
        example = next(one for one in result.rejected if one.check == check)
        _line(f"  {count:,} x {check}, e.g. {example.address}: {example.reason}")
    if result.quarantine_error:
        _line(f"  the quarantine could not be written, so some of these are tried again: {result.quarantine_error}")
    for sidecar in result.late_sidecars:
        _line(f"  {sidecar} arrived or changed after recordings below it were collected; it does not apply to those")


def _line(line: str) -> None:
    _console().print(text.printable(line), soft_wrap=True, markup=False)


def _console() -> Console:
    return Console(stderr=True, highlight=False)
