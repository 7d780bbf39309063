"""The origin of a model, and the runs and models that used given recordings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from glt.errors import GltError
from glt.lifecycle import collection, recordings, registry, repository, s3, tracking
from glt.lifecycle.repository import PinCommit
from glt.text import clean

if TYPE_CHECKING:
    from mlflow.entities import Run

_ABBREVIATED = 7  # digits of a hash that people write


def trace_model(model: str, root: Path) -> Tree:
    """Trace a registered version back to its run, its data and the delivered objects.

    Args:
        model: ``name/version``, ``name@alias``, or a name, which is its champion.
        root: the git repository that holds data.dvc; details of data that it does not know are omitted.

    Raises:
        GltError: there is no such version.
    """
    version = registry.find(model)
    aliases = registry.aliases(version.name, version.version)
    name = escape(clean(version.name))
    tree = Tree(f"[bold]{name}/{version.version}[/bold] {' '.join(f'@{alias}' for alias in aliases)}".rstrip())
    for tag, title in {
        "recipe": "recipe",
        "code.version": "code",
        "image": "image",
        "parent.model": "champion then",
    }.items():
        tree.add(escape(f"{title}: {clean(version.tags.get(tag, 'unknown'))}"))
    if not version.digest:
        tree.add("digest missing: not promotable; register again (glt register)")
    run = run_of(version)
    if run is not None:
        tree.add(escape(clean(f"run: {run.info.run_name} ({run.info.run_id}), {run.info.status}")))
    _add_data(tree, version.tags.get("data.version", ""), root, _sources([run] if run else []))
    return tree


def trace_data(what: str, root: Path) -> Tree:
    """Trace recordings to the runs that used them and the models that were trained on them.

    Args:
        what: a data version (its first digits do), a git revision, the name of a file in data/, or the address of a
            delivered object.
        root: the git repository that holds data.dvc.

    Raises:
        GltError: neither the repository nor MLflow knows them.
    """
    tree = Tree(f"[bold]{escape(clean(what))}[/bold]")
    for data_version in _versions(what, root):
        runs = _runs(data_version)
        branch = _add_data(tree, data_version, root, _sources(runs))
        for run in runs:
            score = run.data.metrics.get("probe/top1")
            description = (
                f"{run.info.run_name} ({run.info.run_id}), {run.data.tags.get('recipe', '')}, {run.info.status}"
            )
            score_text = "" if score is None else f", linear probe {100 * score:.1f}"
            branch.add(escape(clean(f"run: {description}{score_text}")))
        for version in registry.versions_trained_on(data_version):
            aliases = "".join(f" @{alias}" for alias in registry.aliases(version.name, version.version))
            branch.add(f"model: [bold]{escape(clean(version.name))}/{version.version}[/bold]{aliases}")
    return tree


def _versions(what: str, root: Path) -> list[str]:
    """The data versions that a person means, the newest first."""
    pins = repository.history(root)
    if len(what) >= _ABBREVIATED:
        known = [pin.version for pin in pins if what in (pin.version, pin.commit) or _begins(what, pin)]
        if not known:
            known = sorted({_of(run) for run in _runs() if _of(run).startswith(what)})
        if known:
            return list(dict.fromkeys(known))
    versions = list(dict.fromkeys(pin.version for pin in pins if _holds(pin, what, root)))
    if not versions:
        raise GltError(
            f"{what}: no data version, commit, file in data/ or delivered object that {root} or MLflow knows; "
            "`git log data.dvc` lists what was pinned"
        )
    return versions


def _begins(what: str, pin: PinCommit) -> bool:
    return pin.version.startswith(what) or pin.commit.startswith(what)


def _of(run: Run) -> str:
    return str(run.data.tags.get("data.version", ""))


def _holds(pin: PinCommit, what: str, root: Path) -> bool:
    """True if a commit pins a file, or a batch that contains a delivered object."""
    try:
        if what.startswith(s3.SCHEME):
            ledgers = collection.ledgers(root, pin.commit).values()
            return any(what in ledger[part] for ledger in ledgers for part in ("objects", "sidecars"))
        return any(what in (name, name.split("/")[0]) for name in recordings.pinned_files(root, pin.commit))
    except GltError:  # the list of an old version may be on no remote any more
        return False


def _add_data(tree: Tree, data_version: str, root: Path, sources: Iterable[str]) -> Tree:
    branch = tree.add(f"data: [bold]{escape(clean(data_version)) or 'unknown'}[/bold]")
    for source in sources:
        branch.add(escape(clean(f"read from {source}")))
    if data_version == recordings.sample_version():
        branch.add("the sample recordings, which the project generates (glt/data/sample)")
    pins = [pin for pin in repository.history(root) if pin.version == data_version]
    for pin in pins:
        branch.add(escape(f"commit {pin.commit[:12]}, {pin.when:%Y-%m-%d %H:%M}: {pin.subject}"))
    if pins and data_version != recordings.sample_version():
        _add_batches(branch, pins[0], root)
    return branch


def _add_batches(branch: Tree, pin: PinCommit, root: Path) -> None:
    try:
        files, ledgers = recordings.pinned_files(root, pin.commit), collection.ledgers(root, pin.commit)
    except GltError as error:
        branch.add(f"what is in it cannot be listed: {error}")
        return
    counts: dict[str, int] = {}
    for name in files:
        if not name.startswith("."):
            counts[name.split("/")[0]] = counts.get(name.split("/")[0], 0) + 1
    for name, count in counts.items():
        ledger = ledgers.get(name)
        if ledger is None:
            branch.add(f"{name}: {count:,} files, put there by hand" if count > 1 else f"{name}: put there by hand")
        else:
            objects = ledger["objects"]
            clips = sum(entry["clips"] for entry in objects.values())
            branch.add(f"{name}: {clips:,} clips of {len(objects):,} objects, as {min(objects)}")


def run_of(version: registry.Version) -> Run | None:
    """The pipeline run that a version was registered by; None if MLflow no longer has it."""
    from mlflow.exceptions import MlflowException

    try:
        return tracking.connect().get_run(version.tags.get("parent.run") or version.run_id)
    except MlflowException:  # deleted for good, or of another tool
        return None


def _runs(data_version: str = "") -> list[Run]:
    """Pipeline runs, those of a data version if one is given, the newest first."""
    client = tracking.connect()
    experiments = [one.experiment_id for one in client.search_experiments(max_results=1000)]
    runs = tracking.tagged_runs(client, experiments, {"data.version": data_version} if data_version else {})
    return [run for run in runs if tracking.PIPELINE in run.data.tags and "data.version" in run.data.tags]


def _sources(runs: Iterable[Run]) -> list[str]:
    """The addresses that runs recorded for their recordings."""
    used = (one.dataset for run in runs if run.inputs for one in run.inputs.dataset_inputs)
    return list(dict.fromkeys(_address(dataset.source) or dataset.name for dataset in used))


def _address(source: str) -> str:
    """The address in a dataset's source; empty if another tool wrote something else there."""
    try:
        return str(json.loads(source)["uri"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
