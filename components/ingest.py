"""Recordings at a path, in a bucket or at a DVC revision -> clips, and a page on them."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    recordings: str,
    recipe: str,
    data_version: str,
    code_version: str,
    clips: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Read, check and store recordings."""
    from pathlib import Path

    from glt import artifact
    from glt.logs import run_entry
    from glt.steps import data

    values = run_entry(
        data.ingest,
        recordings,
        recipe,
        Path(clips.path),
        data_version=data_version,
        code_version=code_version,
        page=Path(page.path),
    )
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
