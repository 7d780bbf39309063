"""Landing bucket -> recordings that are pinned, pushed and committed."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect(landing: str, recipe: str, into: str) -> str:
    """Take what is new; the address of what to train on."""
    from glt.logs import run_entry
    from glt.steps import collect

    return run_entry(collect.collect, landing, recipe, into)
