"""Landing bucket -> data/, pinned by data.dvc, committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from glt.errors import GltError
from glt.lifecycle import collection, recordings, repository, versions
from glt.lifecycle.collection import Collected
from glt.recipe import load
from glt.reporter import ConsoleReporter


def collect(address: str, recipe: str, into: str = "", commit: bool = False) -> str:
    """Take what is new in the landing bucket: check it, pack it as one archive in data/, pin it, push it.

    What is refused goes to the bucket's quarantine, with the reason. Interrupted anywhere, the same command goes on.

    Args:
        address: ``s3://bucket/prefix`` that recordings are delivered to.
        recipe: name, path or text of a recipe: its data section says format and checks.
        into: ``dvc+<git repository>@<branch>`` that is cloned, and that the new data.dvc is pushed to; the project in
            the current folder if not given.
        commit: commit data.dvc in the current folder; else it is printed.

    Returns:
        What to train on: ``dvc+<git repository>@<commit>``, or the data version.

    Raises:
        GltError: the bucket, DVC's remote or the repository cannot be had; nothing is lost.
    """
    settings = load(recipe)
    with _working_tree(into) as (root, url, branch):
        found = collection.collect(root, address, settings.data, ConsoleReporter())
        _say(address, found)
        if repository.is_committed(root):
            return f"dvc+{url}@{repository.head(root)}" if url else found.version
        unpushed = found.unpushed if found.batch else recordings.push(root).reason
        if unpushed and (url or commit):
            raise GltError(
                f"{root}: not committed, because DVC's remote has not what data.dvc pins: {unpushed}; run again"
            )
        if url or commit:
            made = repository.commit(root, f"Recordings from {address}: {found.batch or 'collected earlier'}")
            _console().print(f"{versions.PIN} is committed: {made[:10]}")
        if url:
            repository.push(root, url, branch)
            return f"dvc+{url}@{made}"
        if not commit:
            print((root / versions.PIN).read_text(encoding="utf-8"), end="")
            print(f"commit {versions.PIN}" + (f"; not pushed: {unpushed}" if unpushed else " and push it"))
    return found.version


@contextmanager
def _working_tree(into: str) -> Iterator[tuple[Path, str, str]]:
    """Folder, address and branch of the project; no address for the current folder."""
    if not into:
        yield Path.cwd(), "", ""
        return
    url, branch = versions.repository(into)
    with repository.clone(url, branch) as root:
        yield root, url, branch


def _say(address: str, found: Collected) -> None:
    console = _console()
    if not found.objects:
        console.print(f"{address}: nothing new")
    else:
        into = f"data/{found.batch}: {found.clips:,} clips" if found.batch else "nothing to take"
        console.print(
            f"{address}: {found.objects:,} new objects, {into}, {len(found.refused):,} refused", soft_wrap=True
        )
    for check, count in Counter(check for _, check, _ in found.refused).most_common():
        place, reason = next((place, reason) for place, of, reason in found.refused if of == check)
        console.print(f"  {count:,} x {check}, as {place}: {reason}", soft_wrap=True)
    for place in found.late:
        console.print(
            f"  {place} came or changed later than recordings below it; those keep what was said when they were taken",
            soft_wrap=True,
        )


def _console() -> Console:
    return Console(stderr=True, highlight=False)
