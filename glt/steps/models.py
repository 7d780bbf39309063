"""Two registered models side by side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glt import artifact
from glt.analysis.comparison import Model, fractions, write_comparison
from glt.analysis.page import PAGE
from glt.errors import GltError
from glt.lifecycle import lineage, recordings, registry, repository
from glt.settings import home

_PROVENANCE_TAGS = {  # title -> tag of the version
    **{"data": "data.version", "code": "code.version", "recipe": "recipe", "image": "image"},
    "gate": "gate.better",
}


def compare_models(first: str, second: str, out: Path | None = None, root: Path = Path()) -> str:
    """Write one page on two registered models: scores, confusions, what changed in data, recipe and code.

    Args:
        first: ``name/version``, ``name@alias``, or a name, which is its champion.
        second: likewise.
        out: where the page goes; among the reports in GLT_HOME if not given.
        root: the git repository whose data.dvc pins their recordings.

    Returns:
        Its path.

    Raises:
        GltError: there is no such model, or its files cannot be downloaded.
    """
    page = out or home() / "reports" / f"{first}-and-{second}.html".replace("/", "-")
    PAGE.check(page)
    models = [_model(name, Path(root)) for name in (first, second)]
    write_comparison(page, *models)
    return str(page)


def _model(name: str, root: Path) -> Model:
    version = registry.find(name)
    folder = version.folder()
    aliases = "".join(f" @{alias}" for alias in registry.aliases(version.name, version.version))
    run = lineage.run_of(version)
    config = artifact.read_json(folder / "config.json", dict)
    recipe = config.get("recipe", {})
    scores = run.data.metrics if run else {}
    return Model(
        name=f"{version.name}/{version.version}{aliases}",
        scores=scores,
        predictions=pd.read_parquet(folder / "predictions.parquet", columns=["name", "label", "predicted"]),
        recipe=recipe,
        provenance={
            **{title: version.tags.get(tag, "unknown") for title, tag in _PROVENANCE_TAGS.items()},
            "run": f"{run.info.run_name} ({run.info.run_id})" if run else "deleted",
        },
        files=_files(version.tags.get("data.version", ""), root),
        classes=config.get("classes", ()),
        skeleton=config.get("skeleton", {}),
        fractions=fractions(scores),
    )


def _files(data_version: str, root: Path) -> dict[str, str] | None:
    pin = next((pin for pin in repository.history(root) if pin.version == data_version), None)
    if pin is None:
        return None
    try:
        return recordings.pinned_files(root, pin.commit)
    except GltError:  # on no remote any more
        return None
