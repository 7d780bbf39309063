"""The training graph.

    ingest -> disentangle -> pretrain -> linear_probe -> gate -> register -> promote, if better
                                      -> finetune, one a labelled fraction and seed -> report, on all

What a step made is reused while its inputs, the data version and the code version stay the same; gate, report,
register, promote and finish run every time, because the registry and the run that they read may have changed.
"""

from collections.abc import Callable, Mapping

from kfp import dsl
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent

from components.disentangle import disentangle
from components.finetune import finetune
from components.finish import finish
from components.gate import gate
from components.ingest import ingest
from components.linear_probe import linear_probe
from components.pretrain import pretrain
from components.promote import promote
from components.register import register
from components.report import report
from pipelines.parameters import Count, Items, Records, Text
from pipelines.profiles import PROFILES, Profile, heavy, light, trains

TRIALS: Records = [{"fraction": 0.05, "seed": 0}, {"fraction": 0.10, "seed": 0}]


def training_pipeline(profile_name: str) -> BaseComponent:
    """The graph for an accelerator profile.

    Its parameters: `recordings` (a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``), `recipe` (a
    name, or its text), `data_version` (DVC md5), `code_version` (hash of the source tree), `trials` (labelled fraction
    and seed of each fine-tuning), `accelerator` and `nodes` (how many machines pretrain together).
    """
    profile = PROFILES[profile_name]

    @dsl.pipeline(name="glt-training", description="Pretrain, measure, register and promote a GL-Transformer")
    def training(
        recordings: str,
        recipe: str,
        data_version: str,
        code_version: str,
        trials: Records = TRIALS,
        accelerator: str = profile.accelerator,
        nodes: int = profile.nodes,
    ) -> None:
        versions = {"data_version": data_version, "code_version": code_version}
        end = finish(recipe=recipe, **versions)
        light(end, profile, cached=False)
        with dsl.ExitHandler(end, name="run"):
            train(profile, recordings, recipe, versions, trials, accelerator, nodes)

    return training


def train(
    profile: Profile,
    recordings: Text,
    recipe: Text,
    versions: Mapping[str, Text],
    trials: Items,
    accelerator: Text,
    nodes: Count,
    admitted: Callable[[PipelineTask], PipelineTask] | None = None,
) -> None:
    """Put the steps of a training into the graph that is being made.

    Args:
        profile: what they ask of the cluster.
        recordings: as the graph's parameter of that name, or what an earlier step gives; so are the next five.
        recipe: as above.
        versions: `data_version` and `code_version`.
        trials: as above.
        accelerator: as above.
        nodes: as above.
        admitted: makes a step from `ingest` that must succeed before anything else is done.
    """
    ingested = ingest(recordings=recordings, recipe=recipe, **versions)
    light(ingested, profile, hours=6)

    disentangled = disentangle(clips=ingested.outputs["clips"], recipe=recipe, **versions)
    if admitted is not None:
        disentangled.after(admitted(ingested))
    heavy(disentangled, profile, hours=6)
    motions = disentangled.outputs["motions"]

    pretrained = pretrain(motions=motions, recipe=recipe, accelerator=accelerator, nodes=nodes, **versions)
    trains(pretrained, profile, hours=120, nodes=profile.nodes)
    encoder = pretrained.outputs["encoder"]

    probed = linear_probe(motions=motions, encoder=encoder, recipe=recipe, accelerator="cpu", **versions)
    heavy(probed, profile, hours=12)

    with dsl.ParallelFor(trials, name="labelled-fractions", parallelism=2) as trial:
        finetuned = finetune(
            motions=motions,
            encoder=encoder,
            recipe=recipe,
            fraction=trial.fraction,
            seed=trial.seed,
            accelerator=accelerator,
            **versions,
        )
        trains(finetuned, profile, hours=24)

    gated = gate(
        clips=ingested.outputs["clips"],
        classifier=probed.outputs["classifier"],
        recipe=recipe,
        accelerator="cpu",
        **versions,
    )
    heavy(gated, profile, hours=12, cached=False)

    reported = report(
        clips=ingested.outputs["clips"],
        motions=motions,
        encoder=encoder,
        classifier=probed.outputs["classifier"],
        finetuned=dsl.Collected(finetuned.outputs["classifier"]),
        verdict=gated.outputs["verdict"],
        recipe=recipe,
        **versions,
    )
    light(reported, profile, cached=False)

    registered = register(
        classifier=probed.outputs["classifier"],
        verdict=gated.outputs["verdict"],
        recipe=recipe,
        **versions,
    )
    light(registered, profile, cached=False)

    with dsl.If(gated.outputs["Output"] == True, name="better"):  # noqa: E712 - a graph condition
        promoted = promote(version=registered.output, verdict=gated.outputs["verdict"], recipe=recipe, **versions)
        light(promoted, profile, cached=False)
