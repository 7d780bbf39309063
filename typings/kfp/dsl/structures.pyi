from collections.abc import Mapping

class ComponentSpec:
    name: str
    inputs: Mapping[str, object] | None
    outputs: Mapping[str, object] | None
