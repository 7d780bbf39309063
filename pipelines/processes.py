"""Runs steps as processes of this machine, which end with the run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from kfp.local import subprocess_task_handler
from kfp.local.status import Status

GRACE = 60.0  # seconds that steps get to save their state
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ending:
    """The processes of a run, and the signal that ended it.

    Attributes:
        signal: the first signal that arrived; None if none did.
    """

    def __init__(self) -> None:
        """A run without processes."""
        self.signal: signal.Signals | None = None
        self._lock = threading.RLock()  # a handler may interrupt who holds it
        self._running: list[subprocess.Popen[str]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str] | None:
        """Start a step's process in a group of its own; None if the run is ending."""
        with self._lock:
            if self.signal is not None:
                return None
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
                env=environment,
                start_new_session=True,
            )
            self._running.append(process)
            return process

    def handle(self, number: int, frame: FrameType | None) -> None:
        """End the steps: the first signal lets them save their state, a second one kills them."""
        first = self.signal is None
        self.signal = self.signal or signal.Signals(number)
        self._send(signal.SIGTERM if first else signal.SIGKILL)
        if first:
            last = threading.Timer(GRACE, self._send, [signal.SIGKILL])  # whatever the main thread waits for
            last.daemon = True
            last.start()
            raise KeyboardInterrupt

    def wait(self) -> None:
        """Wait for the end of all processes; what they leave behind is killed."""
        for process in self._running:
            process.wait()
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with self._lock:
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)


class ProcessTask(subprocess_task_handler.SubprocessTaskHandler):
    """Runs a step as a process.

    Replaces the handler of KFP 2.17, which pastes the path of this Python unquoted into the shell script and into every
    argument that contains `python3`, and leaves its processes behind when a signal ends it.
    """

    ending = Ending()

    def run(self) -> Status:
        """Start the process, print its output and wait for its end."""
        shell, flags, script, *arguments = self.full_command
        script = script.replace("python3", shlex.quote(sys.executable))
        return Status.SUCCESS if run_process([shell, flags, script, *arguments], self.env_vars) == 0 else Status.FAILURE


def run_process(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command with additional environment variables, print its output, and return its exit code."""
    process = ProcessTask.ending.start(command, {**os.environ, **variables})
    if process is None:
        return 128 + signal.SIGTERM
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="")
    print("\n")
    return process.wait()


@contextmanager
def process_tasks() -> Iterator[Ending]:
    """Make `kfp.local` run steps by `ProcessTask` within the block; SIGTERM, SIGINT and SIGHUP end them.

    A signal raises KeyboardInterrupt in the block; all its processes have ended when the block is left. KFP has no
    setting for the class of its tasks (see `pipelines.containers.container_tasks`).
    """
    original, ending = subprocess_task_handler.SubprocessTaskHandler, Ending()
    subprocess_task_handler.SubprocessTaskHandler = ProcessTask  # type: ignore[misc]  # a class is replaced
    ProcessTask.ending = ending
    main = threading.current_thread() is threading.main_thread()
    caught = [one for one in _SIGNALS if main and signal.getsignal(one) is not signal.SIG_IGN]  # as under nohup
    before = {one: signal.signal(one, ending.handle) for one in caught}
    try:
        yield ending
    finally:
        if ending.signal is not None:
            ending.wait()
        for one, handler in before.items():
            signal.signal(one, handler)
        subprocess_task_handler.SubprocessTaskHandler = original  # type: ignore[misc]
