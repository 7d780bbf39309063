"""Encoders and classifiers of all arms of a study -> their scores side by side."""

from typing import List  # noqa: UP035 - the annotation KFP reads for a list of artifacts

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare_arms(
    encoders: dsl.Input[List[dsl.Model]],  # noqa: UP006
    classifiers: dsl.Input[List[dsl.Model]],  # noqa: UP006
    recipe: str,
    data_version: str,
    code_version: str,
    table: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Compare the arms of a study."""
    from pathlib import Path

    from glt import artifact
    from glt.logs import run_entry
    from glt.steps import study

    values, text = run_entry(
        study.compare_arms,
        [Path(model.path) for model in encoders],
        [Path(model.path) for model in classifiers],
        recipe,
        data_version,
        code_version,
    )
    artifact.write_bytes(Path(table.path), text.encode())
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
