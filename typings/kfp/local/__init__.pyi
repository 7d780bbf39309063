from typing import Any

class SubprocessRunner:
    def __init__(self, use_venv: bool = ...) -> None: ...

class DockerRunner:
    container_run_args: dict[str, Any]
    def __init__(self, **container_run_args: object) -> None: ...

def init(
    runner: SubprocessRunner | DockerRunner,
    pipeline_root: str = ...,
    workspace_root: str | None = ...,
    raise_on_error: bool = ...,
    enable_caching: bool = ...,
    cache_root: str | None = ...,
) -> None: ...
