"""Motions -> pretrained encoder (MPDP)."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pretrain(
    motions: dsl.Input[dsl.Dataset],
    recipe: str,
    accelerator: str,
    data_version: str,
    code_version: str,
    encoder: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    nodes: int = 1,
) -> None:
    """Pretrain the encoder without labels, here or in a TrainJob of several nodes."""
    from pathlib import Path

    from glt import artifact
    from glt.logs import run_entry
    from glt.steps import launch

    values = run_entry(
        launch.launch_pretraining,
        Path(motions.path),
        recipe,
        Path(encoder.path),
        accelerator=accelerator,
        data_version=data_version,
        code_version=code_version,
        nodes=nodes,
    )
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
