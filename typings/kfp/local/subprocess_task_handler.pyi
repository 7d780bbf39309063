from kfp.local import SubprocessRunner
from kfp.local.status import Status
from kfp.local.task_handler_interface import ITaskHandler

class SubprocessTaskHandler(ITaskHandler):
    image: str
    full_command: list[str]
    pipeline_root: str
    runner: SubprocessRunner
    env_vars: dict[str, str]
    def run(self) -> Status: ...
