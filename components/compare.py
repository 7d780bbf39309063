"""Classifier against the champion -> verdict; True if it may be promoted."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare(
    clips: dsl.Input[dsl.Dataset],
    classifier: dsl.Input[dsl.Model],
    recipe: str,
    accelerator: str,
    data_version: str,
    code_version: str,
    verdict: dsl.Output[dsl.Artifact],
) -> bool:
    """Paired test of the candidate and the champion on the same clips."""
    from pathlib import Path

    from glt.steps import compare

    return compare.compare(
        Path(clips.path),
        Path(classifier.path),
        recipe,
        Path(verdict.path),
        accelerator=accelerator,
        data_version=data_version,
        code_version=code_version,
    )
