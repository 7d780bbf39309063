"""All of a run -> one HTML page."""

from typing import List  # noqa: UP035 - the annotation KFP reads for a list of artifacts

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    clips: dsl.Input[dsl.Dataset],
    motions: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    classifier: dsl.Input[dsl.Model],
    finetuned: dsl.Input[List[dsl.Model]],  # noqa: UP006
    verdict: dsl.Input[dsl.Artifact],
    recipe: str,
    data_version: str,
    code_version: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Write the run's report."""
    from pathlib import Path

    from glt import artifact
    from glt.logs import run_entry
    from glt.steps import report

    values = run_entry(
        report.report,
        Path(clips.path),
        Path(motions.path),
        Path(encoder.path),
        Path(classifier.path),
        [Path(model.path) for model in finetuned],
        Path(verdict.path),
        recipe,
        Path(page.path),
        data_version=data_version,
        code_version=code_version,
    )
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
