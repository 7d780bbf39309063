from collections.abc import Mapping

class InputSpec:
    optional: bool

class ComponentSpec:
    name: str
    inputs: Mapping[str, InputSpec] | None
    outputs: Mapping[str, object] | None
