import abc

from kfp.local import DockerRunner, SubprocessRunner
from kfp.local.status import Status

class ITaskHandler(abc.ABC):
    def __init__(
        self,
        image: str,
        full_command: list[str],
        pipeline_root: str,
        runner: SubprocessRunner | DockerRunner,
        env_vars: dict[str, str] | None = ...,
    ) -> None: ...
    @abc.abstractmethod
    def run(self) -> Status: ...
