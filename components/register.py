"""Classifier -> version in the model registry, alias `challenger`."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    classifier: dsl.Input[dsl.Model],
    verdict: dsl.Input[dsl.Artifact],
    recipe: str,
    data_version: str,
    code_version: str,
) -> str:
    """Register the classifier with the gate's reason."""
    from pathlib import Path

    from glt.logs import run_entry
    from glt.steps import release

    return run_entry(
        release.register,
        Path(classifier.path),
        Path(verdict.path),
        recipe,
        data_version=data_version,
        code_version=code_version,
    )
