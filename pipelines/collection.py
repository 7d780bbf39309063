"""The graph of a scheduled collection: one step, from the landing bucket to a commit of data.dvc."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.collect import collect
from pipelines import profiles
from pipelines.profiles import set_light


def collection_pipeline(profile_name: str) -> BaseComponent:
    """The graph for an accelerator profile.

    Its parameters: `landing` (``s3://bucket/prefix``), `recipe` (whose data section says format and checks) and `into`
    (``dvc+<git repository>@<branch>``).
    """
    profile = profiles.find(profile_name)

    @dsl.pipeline(name="glt-collection", description="Take what was delivered, check, pack, pin and commit it")
    def collection(landing: str, recipe: str, into: str) -> None:
        collect_task = collect(landing=landing, recipe=recipe, into=into)
        set_light(collect_task, profile, cached=False, hours=6)

    return collection
