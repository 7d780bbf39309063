from typing import Any

from docker import DockerClient
from kfp.local import DockerRunner
from kfp.local.status import Status
from kfp.local.task_handler_interface import ITaskHandler

class DockerTaskHandler(ITaskHandler):
    image: str
    full_command: list[str]
    pipeline_root: str
    runner: DockerRunner
    env_vars: dict[str, str]
    def get_volumes_to_mount(self, client: DockerClient | None = ...) -> dict[str, Any]: ...
    def run(self) -> Status: ...
