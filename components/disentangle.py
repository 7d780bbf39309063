"""Clips -> global translation and local motion, split by protocol, with displacement bins."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def disentangle(
    clips: dsl.Input[dsl.Dataset],
    recipe: str,
    data_version: str,
    code_version: str,
    motions: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Disentangle global translation and local motion."""
    from pathlib import Path

    from glt import artifact
    from glt.logs import run_entry
    from glt.steps import data

    values = run_entry(
        data.disentangle,
        Path(clips.path),
        recipe,
        Path(motions.path),
        data_version=data_version,
        code_version=code_version,
    )
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
