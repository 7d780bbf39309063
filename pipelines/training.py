"""The training graph.

    ingest -> disentangle -> pretrain -> linear_probe -> gate -> register -> promote, if better
                                      -> finetune, once per labelled fraction and seed -> report, on all

1. Read and check the recordings; disentangle each clip into global translation and local motion.
2. Pretrain the encoder without labels.
3. Fit a linear probe on the frozen encoder, and fine-tune on each labelled fraction.
4. Let the gate compare the probe's classifier with the champion, and write the report.
5. Register the classifier; promote it if the gate passed.
6. Finish: close the MLflow run, however the graph ended.

Outputs are reused while a step's inputs, the data version and the code version stay the same; gate, report, register,
promote and finish run every time, because the registry and the run that they read may have changed.
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
from pipelines import profiles
from pipelines.parameters import Count, Items, Records, Text
from pipelines.profile import Profile
from pipelines.profiles import set_heavy, set_light, set_registering, set_training

TRIALS: Records = [{"fraction": 0.05, "seed": 0}, {"fraction": 0.10, "seed": 0}]


def training_pipeline(profile_name: str) -> BaseComponent:
    """The graph for an accelerator profile.

    Its parameters: `recordings` (a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``), `recipe` (a
    name, or its text), `data_version` (DVC md5), `code_version` (hash of the source tree), `trials` (labelled fraction
    and seed of each fine-tuning), `accelerator` and `nodes` (how many machines pretrain together).
    """
    profile = profiles.find(profile_name)

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
        finish_task = finish(recipe=recipe, **versions)
        set_light(finish_task, profile, cached=False)
        with dsl.ExitHandler(finish_task, name="run"):
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
    check_clips: Callable[[PipelineTask], PipelineTask] | None = None,
) -> None:
    """Add the steps of a training to the graph that is being built.

    Args:
        profile: resources of the steps.
        recordings: the graph's parameter of that name or the output of an earlier step, as the next five are.
        recipe: as above.
        versions: `data_version` and `code_version`.
        trials: as above.
        accelerator: as above.
        nodes: as above.
        check_clips: adds a step after `ingest` that must succeed before any other step starts.
    """
    ingest_task = ingest(recordings=recordings, recipe=recipe, **versions)
    set_light(ingest_task, profile, hours=6)

    disentangle_task = disentangle(clips=ingest_task.outputs["clips"], recipe=recipe, **versions)
    if check_clips is not None:
        disentangle_task.after(check_clips(ingest_task))
    set_heavy(disentangle_task, profile, hours=6)
    motions = disentangle_task.outputs["motions"]

    pretrain_task = pretrain(motions=motions, recipe=recipe, accelerator=accelerator, nodes=nodes, **versions)
    set_training(pretrain_task, profile, hours=120, nodes=profile.nodes)
    encoder = pretrain_task.outputs["encoder"]

    probe_task = linear_probe(motions=motions, encoder=encoder, recipe=recipe, accelerator="cpu", **versions)
    set_heavy(probe_task, profile, hours=12)

    with dsl.ParallelFor(trials, name="labelled-fractions", parallelism=2) as trial:
        finetune_task = finetune(
            motions=motions,
            encoder=encoder,
            recipe=recipe,
            fraction=trial.fraction,
            seed=trial.seed,
            accelerator=accelerator,
            **versions,
        )
        set_training(finetune_task, profile, hours=24)

    gate_task = gate(
        clips=ingest_task.outputs["clips"],
        classifier=probe_task.outputs["classifier"],
        recipe=recipe,
        accelerator="cpu",
        **versions,
    )
    set_heavy(gate_task, profile, hours=12, cached=False)

    report_task = report(
        clips=ingest_task.outputs["clips"],
        motions=motions,
        encoder=encoder,
        classifier=probe_task.outputs["classifier"],
        finetuned=dsl.Collected(finetune_task.outputs["classifier"]),
        verdict=gate_task.outputs["verdict"],
        recipe=recipe,
        **versions,
    )
    set_light(report_task, profile, cached=False)

    register_task = register(
        classifier=probe_task.outputs["classifier"],
        verdict=gate_task.outputs["verdict"],
        recipe=recipe,
        **versions,
    )
    set_registering(register_task, profile)

    with dsl.If(gate_task.outputs["Output"] == True, name="better"):  # noqa: E712 - a graph condition
        promote_task = promote(
            version=register_task.output, verdict=gate_task.outputs["verdict"], recipe=recipe, **versions
        )
        set_light(promote_task, profile, cached=False)
