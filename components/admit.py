"""Clips -> nothing, or an error that stops a retraining before it trains."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def admit(clips: dsl.Input[dsl.Dataset], recipe: str, data_version: str, code_version: str) -> None:
    """Stop if the recordings raise an alarm."""
    from pathlib import Path

    from glt.logs import run_entry
    from glt.steps import retraining

    run_entry(retraining.admit, Path(clips.path), recipe, data_version=data_version, code_version=code_version)
