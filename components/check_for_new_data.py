"""Recordings and champion -> whether there is anything new to train on, and the recipe to train with."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


# `Output` is whether there is new data: Kubeflow's local runner finds one of several outputs for a condition only by
# that name.
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_for_new_data(recordings: str, recipe: str, code_version: str) -> NamedTuple(  # type: ignore[valid-type]  # KFP runs this text alone: the type must be written here
    "RetrainingPlan", [("recordings", str), ("data_version", str), ("recipe", str), ("Output", bool)]
):
    """Compare the data version with the champion's."""
    from glt.logs import run_entry
    from glt.steps import retraining

    return tuple(run_entry(retraining.check_for_new_data, recordings, recipe, code_version))
