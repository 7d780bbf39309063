"""Frozen encoder -> linear classifier and its scores."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def linear_probe(
    motions: dsl.Input[dsl.Dataset],
    encoder: dsl.Input[dsl.Model],
    recipe: str,
    accelerator: str,
    data_version: str,
    code_version: str,
    classifier: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    """Fit and measure a linear classifier on the frozen encoder."""
    from pathlib import Path

    from glt import artifact
    from glt.analysis import confusions
    from glt.logs import run_entry
    from glt.steps import training

    values = run_entry(
        training.linear_probe,
        Path(motions.path),
        Path(encoder.path),
        recipe,
        Path(classifier.path),
        accelerator=accelerator,
        data_version=data_version,
        code_version=code_version,
    )
    metrics.metadata.update(values)
    artifact.write_json(Path(metrics.path), values)
    classes, counts = run_entry(confusions.of_classifier, Path(classifier.path))
    confusion.log_confusion_matrix(classes, counts)
    artifact.write_json(Path(confusion.path), {"classes": classes, "counts": counts})
