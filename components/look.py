"""Recordings, champion -> is there anything new to train on, and how."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


# `Output` says whether there is: Kubeflow's local runner finds an output of many for a condition only by that name.
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def look(recordings: str, recipe: str, code_version: str) -> NamedTuple(
    "News", [("recordings", str), ("data_version", str), ("recipe", str), ("Output", bool)]
):
    """Compare the data version with the champion's."""
    from glt.steps import retraining

    return tuple(retraining.look(recordings, recipe, code_version))
