from kfp.dsl.pipeline_channel import PipelineChannel

class LoopParameterArgument(PipelineChannel):
    def __getattr__(self, name: str) -> PipelineChannel: ...

class Collected(PipelineChannel):
    def __init__(self, output: PipelineChannel) -> None: ...
