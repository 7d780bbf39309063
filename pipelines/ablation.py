"""The graph of a study (glt/recipe/study.py): one recipe in many arms, which stand side by side in MLflow.

    ingest -> disentangle -> pretrain -> linear_probe, one an arm and seed -> compare_arms, on all

Recordings are read once. What an arm made is reused while its recipe, the data version and the code version stay.
Nothing is registered: a study answers a question, it makes no model to serve.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.compare_arms import compare_arms
from components.disentangle import disentangle
from components.finish import finish
from components.ingest import ingest
from components.linear_probe import linear_probe
from components.pretrain import pretrain
from pipelines.parameters import Records
from pipelines.profiles import PROFILES, heavy, light, trains

AT_ONCE = 2  # arms


def ablation_pipeline(profile_name: str) -> BaseComponent:
    """The graph for an accelerator profile.

    Its parameters: `recordings`, `recipe` (that every arm starts from), `data_version`, `code_version` and
    `accelerator` as those of the training graph; `arms`, each with the text of its `recipe`, which says the arm and the
    seed (`glt.recipe.study.Study.recipes`).
    """
    profile = PROFILES[profile_name]

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
        end = finish(recipe=recipe, **versions)
        light(end, profile, cached=False)
        with dsl.ExitHandler(end, name="run"):
            ingested = ingest(recordings=recordings, recipe=recipe, **versions)
            light(ingested, profile, hours=6)

            with dsl.ParallelFor(arms, name="arms", parallelism=AT_ONCE) as arm:
                disentangled = disentangle(clips=ingested.outputs["clips"], recipe=arm.recipe, **versions)
                heavy(disentangled, profile, hours=6)
                motions = disentangled.outputs["motions"]

                pretrained = pretrain(motions=motions, recipe=arm.recipe, accelerator=accelerator, **versions)
                trains(pretrained, profile, hours=120)

                probed = linear_probe(
                    motions=motions,
                    encoder=pretrained.outputs["encoder"],
                    recipe=arm.recipe,
                    accelerator="cpu",
                    **versions,
                )
                heavy(probed, profile, hours=12)

            compared = compare_arms(
                encoders=dsl.Collected(pretrained.outputs["encoder"]),
                classifiers=dsl.Collected(probed.outputs["classifier"]),
                recipe=recipe,
                **versions,
            )
            light(compared, profile, cached=False)

    return ablation
