"""A process that runs cases under limits, and is replaced when one of them hangs, dies or grows.

The parent starts a template, which imports the target once and forks a runner; a lost runner costs milliseconds.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tests.fuzz import guards
from tests.fuzz.outcome import Outcome, of_exception


class Target(Protocol):
    """One surface of the product.

    Attributes:
        name: of the target.
        seconds, mib: what a case may take.
        programs: True if a case may start processes.
        weight: its part of the time.
    """

    name: str
    seconds: float
    mib: float
    programs: bool
    weight: float

    def prepare(self) -> None:
        """Import what the cases need; called once, before any."""

    def cases(self) -> Any:
        """The hypothesis strategy of the cases: Python literals."""

    def check(self, case: Any, sandbox: Path) -> None:
        """Run a case in an empty folder; raise Broken, or let pass whatever the product raises wrongly."""


class Worker:
    """The process of one target; a context manager."""

    def __init__(self, target: Target) -> None:
        self.target = target
        context = multiprocessing.get_context("fork")
        self._pipe, there = context.Pipe()
        self._folder = Path(tempfile.mkdtemp(prefix="glt-fuzz-")).resolve()
        self._template = context.Process(target=_template, args=(target, there, self._pipe, self._folder), daemon=False)
        self._template.start()
        there.close()
        self._runner = self._started()

    def run(self, case: Any) -> Outcome:
        """Run a case under the target's limits."""
        started = time.monotonic()
        self._pipe.send(case)
        if not self._pipe.poll(self.target.seconds):
            _kill(self._runner)
            self._replaced()
            return Outcome("hangs", f"not done after {self.target.seconds:g} s", time.monotonic() - started)
        answer = self._pipe.recv()
        if isinstance(answer, Outcome):
            return answer
        _kill(self._runner)  # its own processes
        self._runner = self._started()
        return Outcome(f"dies of signal {answer[1]}", "the process was lost", time.monotonic() - started)

    def _replaced(self) -> None:
        while isinstance(self._pipe.recv(), Outcome):
            pass  # an answer that came too late
        self._runner = self._started()

    def _started(self) -> int:
        with contextlib.suppress(EOFError):
            if self._pipe.poll(300):
                return int(self._pipe.recv()[1])
        raise RuntimeError(
            f"target {self.target.name} does not start:\n{(self._folder / 'stderr').read_text()[-2000:]}"
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._template.kill()
        _kill(self._runner)
        self._template.join()
        shutil.rmtree(self._folder, ignore_errors=True)


def _kill(runner: int) -> None:
    """Kill a runner and the processes that it started, which are of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(runner, signal.SIGKILL)


def _template(target: Target, pipe: Connection, parent_end: Connection, folder: Path) -> None:
    parent_end.close()
    os.environ |= {"OMP_NUM_THREADS": "1", "GLT_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    os.environ |= {"NUMBA_CACHE_DIR": str(folder / "numba")}
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        del os.environ[name]
    (folder / "tmp").mkdir()
    tempfile.tempdir = None
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDWR)
    for stream, to in ((0, null), (1, null), (2, os.open("stderr", os.O_WRONLY | os.O_CREAT))):
        os.dup2(to, stream)
    target.prepare()
    os.dup2(null, 2)
    while True:
        runner = os.fork()
        if runner == 0:
            os.setpgid(0, 0)
            _run(target, pipe, folder)
        pipe.send(("started", runner))
        _, status = os.waitpid(runner, 0)
        pipe.send(("lost", os.waitstatus_to_exitcode(status)))


def _run(target: Target, pipe: Connection, folder: Path) -> None:
    guards.limit_memory()
    guard = guards.Guard(folder, target.programs)
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            os._exit(0)
        pipe.send(_outcome(functools.partial(target.check, case, _empty(folder / "sandbox")), guard, target.mib))


def _empty(sandbox: Path) -> Path:
    shutil.rmtree(sandbox, ignore_errors=True)
    sandbox.mkdir()
    return sandbox


def _outcome(check: Callable[[], None], guard: guards.Guard, mib: float) -> Outcome:
    guards.reset_peak()
    before, started = guards.peak()[1], time.monotonic()
    fault = detail = ""
    try:
        check()
        guard.check()
    except BaseException as error:
        fault, detail = of_exception(error)
    guard.seen.clear()
    used, seconds = guards.peak()[0] - before, time.monotonic() - started
    if used > mib and not fault:
        fault, detail = "memory", f"{used:.0f} MiB"
    return Outcome(fault, detail, seconds, used)
