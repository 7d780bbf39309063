from kfp.dsl import PipelineTask
from kfp.dsl.structures import ComponentSpec

class BaseComponent:
    name: str
    description: str | None
    component_spec: ComponentSpec
    def __call__(self, **kwargs: object) -> PipelineTask: ...
