"""Classifier and champion -> the gate's verdict; True if the classifier may be promoted."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    clips: dsl.Input[dsl.Dataset],
    classifier: dsl.Input[dsl.Model],
    recipe: str,
    accelerator: str,
    data_version: str,
    code_version: str,
    verdict: dsl.Output[dsl.Artifact],
    decision: dsl.Output[dsl.Markdown],
) -> bool:
    """Decide whether the classifier may replace the champion: a paired test on the same clips."""
    from pathlib import Path

    from glt.logs import run_entry
    from glt.steps import gate

    passed = run_entry(
        gate.gate,
        Path(clips.path),
        Path(classifier.path),
        recipe,
        Path(verdict.path),
        accelerator=accelerator,
        data_version=data_version,
        code_version=code_version,
    )
    run_entry(gate.write_page, Path(verdict.path), Path(decision.path))
    return passed
