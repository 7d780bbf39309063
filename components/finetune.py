"""Pretrained encoder and a fraction of the labels -> classifier and its scores."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finetune(
    motions: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    recipe: str,
    fraction: float,
    seed: int,
    accelerator: str,
    data_version: str,
    code_version: str,
    classifier: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train encoder and classifier on few labels."""
    import os
    from pathlib import Path

    from glt import artifact
    from glt.logs import run_entry
    from glt.steps import training

    values = run_entry(
        training.finetune,
        Path(motions.path),
        Path(encoder.path),
        recipe,
        fraction,
        seed,
        Path(classifier.path),
        accelerator=accelerator,
        tasks_at_once=int(os.environ.get("GLT_TASKS_AT_ONCE", "1")),
        data_version=data_version,
        code_version=code_version,
    )
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
