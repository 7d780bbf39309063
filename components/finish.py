"""The end of a run, however it went: closes its MLflow run truthfully."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(recipe: str, data_version: str, code_version: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Close the parent run."""
    from glt.logs import run_entry
    from glt.steps.finish import finish

    run_entry(finish, recipe, data_version, code_version, status.state, status.error_message or "")
