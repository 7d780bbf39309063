"""Version -> alias `champion`."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    version: str,
    verdict: dsl.Input[dsl.Artifact],
    recipe: str,
    data_version: str,
    code_version: str,
) -> None:
    """Make the version the champion."""
    from pathlib import Path

    from glt.logs import run_entry
    from glt.steps import release

    run_entry(
        release.promote, version, Path(verdict.path), recipe, data_version=data_version, code_version=code_version
    )
