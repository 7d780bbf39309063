"""The graph of a study (glt/recipe/study.py): one recipe in many arms, compared in MLflow.

    ingest -> disentangle -> pretrain -> linear_probe, once per arm and seed -> compare_arms, on all

1. Read the recordings, once.
2. For each arm and seed: disentangle, pretrain and probe. The outputs are reused while the arm's recipe, the data
   version and the code version stay the same.
3. Compare the arms: a table and a figure in MLflow.

Nothing is registered: a study answers a question and makes no model to serve.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.compare_arms import compare_arms
from components.disentangle import disentangle
from components.finish import finish
from components.ingest import ingest
from components.linear_probe import linear_probe
from components.pretrain import pretrain
from pipelines import profiles
from pipelines.parameters import Records
from pipelines.profiles import set_heavy, set_light, set_training

AT_ONCE = 2  # arms


def ablation_pipeline(profile_name: str) -> BaseComponent:
    """The graph for an accelerator profile.

    Its parameters: `recordings`, `recipe` (the base of all arms), `data_version`, `code_version` and `accelerator` as
    in the training graph; `arms`, each with the text of its `recipe`, which names the arm and the seed
    (`glt.recipe.study.Study.recipes`).
    """
    profile = profiles.find(profile_name)

    @dsl.pipeline(name="glt-ablation", description="Train one recipe in many arms and compare them")
    def ablation(
        recordings: str,
        recipe: str,
        data_version: str,
        code_version: str,
        arms: Records,
        accelerator: str = profile.accelerator,
    ) -> None:
        versions = {"data_version": data_version, "code_version": code_version}
        finish_task = finish(recipe=recipe, **versions)
        set_light(finish_task, profile, cached=False)
        with dsl.ExitHandler(finish_task, name="run"):
            ingest_task = ingest(recordings=recordings, recipe=recipe, **versions)
            set_light(ingest_task, profile, hours=6)

            with dsl.ParallelFor(arms, name="arms", parallelism=AT_ONCE) as arm:
                disentangle_task = disentangle(clips=ingest_task.outputs["clips"], recipe=arm.recipe, **versions)
                set_heavy(disentangle_task, profile, hours=6)
                motions = disentangle_task.outputs["motions"]

                pretrain_task = pretrain(motions=motions, recipe=arm.recipe, accelerator=accelerator, **versions)
                set_training(pretrain_task, profile, hours=120)

                probe_task = linear_probe(
                    motions=motions,
                    encoder=pretrain_task.outputs["encoder"],
                    recipe=arm.recipe,
                    accelerator="cpu",
                    **versions,
                )
                set_heavy(probe_task, profile, hours=12)

            compare_task = compare_arms(
                encoders=dsl.Collected(pretrain_task.outputs["encoder"]),
                classifiers=dsl.Collected(probe_task.outputs["classifier"]),
                recipe=recipe,
                **versions,
            )
            set_light(compare_task, profile, cached=False)

    return ablation
