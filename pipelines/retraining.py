"""The graph of a scheduled retraining.

    check_for_new_data -> nothing new: the run records that and ends
                       -> ingest -> admit -> the training graph, from the champion's encoder or from scratch

The newest recordings are resolved when the run starts, so every run of a schedule takes the same parameters.
"""

from kfp import dsl
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent

from components.admit import admit
from components.check_for_new_data import check_for_new_data
from components.finish import finish
from pipelines import profiles
from pipelines.parameters import Records, Text
from pipelines.profiles import set_light
from pipelines.training import TRIALS, train


def retraining_pipeline(profile_name: str) -> BaseComponent:
    """The graph for an accelerator profile.

    Its parameters are those of the training graph without `data_version`; `recordings` names a branch
    (``dvc+<git repository>@<branch>``) or a prefix, whose newest recordings are taken.
    """
    profile = profiles.find(profile_name)

    @dsl.pipeline(name="glt-retraining", description="Retrain if there are new recordings; promote what is better")
    def retraining(
        recordings: str,
        recipe: str,
        code_version: str,
        trials: Records = TRIALS,
        accelerator: str = profile.accelerator,
        nodes: int = profile.nodes,
    ) -> None:
        finish_task = finish(recipe=recipe, data_version="", code_version=code_version)
        set_light(finish_task, profile, cached=False)
        with dsl.ExitHandler(finish_task, name="run"):
            check_task = check_for_new_data(recordings=recordings, recipe=recipe, code_version=code_version)
            set_light(check_task, profile, cached=False)
            plan = check_task.outputs
            versions: dict[str, Text] = {"data_version": plan["data_version"], "code_version": code_version}

            def check_clips(ingest_task: PipelineTask) -> PipelineTask:
                task = admit(clips=ingest_task.outputs["clips"], recipe=plan["recipe"], **versions)
                return set_light(task, profile, cached=False)

            with dsl.If(plan["Output"] == True, name="new-data"):  # noqa: E712 - a graph condition
                train(profile, plan["recordings"], plan["recipe"], versions, trials, accelerator, nodes, check_clips)

    return retraining
