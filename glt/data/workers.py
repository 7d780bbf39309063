"""Reads recordings in worker processes, within limits of time and memory.

A file that takes too long or too much memory, or ends its process, is rejected; the other files are read all the same.
"""

from __future__ import annotations

import signal
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from glt import settings
from glt.data import worker_process
from glt.data.archives import Members
from glt.data.fork_server import fork_server
from glt.data.machine import MachineFailure
from glt.data.recording import Recording, Rejection
from glt.data.skeleton_yaml import parse_skeleton
from glt.data.sources import Batch, Chunk
from glt.errors import GltError, first_line
from glt.recipe import DataConfig

TIME, MEMORY, CRASH = "time", "memory", "crash"  # checks of files that are rejected here
LIMITED = frozenset({TIME, MEMORY, CRASH})
CHUNK = 64  # files that a worker reads at a time
_AHEAD = 3  # chunks per worker that are read ahead
_BYTES_PER_SECOND = 1 << 20  # a file may take a second more for each of these
_COPIES = 8  # a file may take this many times its size of memory more
_START = 300.0  # seconds in which a worker must have started

FileResults = tuple[str, Iterator[Recording | Rejection]]  # a file's name and its clips and rejections


@dataclass
class _Task:
    chunk: Chunk
    seconds: float
    spool: Path
    future: Future[bytes]


@dataclass
class Readers:
    """A pool of worker processes; they end with the block, or with this process.

    Attributes:
        data: the format and the checks.
        processes: number of workers at most.
        seconds: time that a file may take, in addition to a second per MiB.
        memory: bytes of memory that a file may take, in addition to eight times its size.
        any_name: accept files without the format's name or label.
    """

    data: DataConfig
    processes: int = field(default_factory=lambda: _cores())
    seconds: float = field(default_factory=settings.file_seconds)
    memory: int = field(default_factory=settings.file_memory)
    any_name: bool = False
    _pool: Any = field(default=None, init=False)
    _workers: int = field(default=0, init=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    def __enter__(self) -> Readers:
        """Check `data.layout`; workers start when they are first needed.

        Raises:
            GltError: the recipe's layout is unknown, or is not a layout.
        """
        if self.data.layout is not None:
            try:
                parse_skeleton(self.data.layout)
            except GltError as error:
                raise GltError(f"recipe: data.layout: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self._stop()

    def read(self, batch: Batch, spool: Path | None = None) -> Iterator[FileResults]:
        """Read a batch, file by file in its order; a file's results are valid until the next file is requested.

        Args:
            batch: the files.
            spool: folder through which large results are passed; a temporary one if not given.

        Raises:
            MachineFailure: such as an input/output error, or the workers cannot be started.
        """
        if spool is None:
            with tempfile.TemporaryDirectory(prefix="glt-") as folder:
                yield from self.read(batch, Path(folder))
            return
        self._start(max(1, min(self.processes, len(batch.names) // CHUNK)))
        pending: deque[_Task] = deque()
        finished = False
        try:
            for chunk in batch.chunks(CHUNK):
                pending.append(self._schedule(chunk, spool))
                if len(pending) >= _AHEAD * self._workers:
                    yield from self._results(pending, spool)
            while pending:
                yield from self._results(pending, spool)
            finished = True
        finally:
            if not finished:
                self._stop()

    def list_members(self, path: Path) -> Members:
        """Like `archives.list_members`, but an archive that takes too long or too much memory is an error."""
        size = path.stat().st_size
        self._start(1)
        task = (path, self._memory(size))
        future = self._pool.schedule(worker_process.list_members, task, timeout=self._seconds(size))
        try:
            members: Members = future.result()
        except GltError:
            raise
        except Exception as error:
            self._stop()
            raise GltError(f"recordings {path}: {self._rejection(error, size).reason}") from error
        return members

    def _start(self, workers: int) -> None:
        """Start the pool, or one that is large enough."""
        from pebble import ProcessPool

        if self._pool is not None and self._workers >= workers:
            return
        self._stop()
        preload = "glt.data.worker_preload" if self.data.format == "ntu" else "glt.data.worker_process"
        self._workers = workers
        self._pool = ProcessPool(workers, initializer=worker_process.start, context=fork_server(preload))
        try:
            self._pool.schedule(worker_process.ready, timeout=_START).result()
        except Exception as error:
            self._stop()
            raise MachineFailure(
                f"the processes that read recordings cannot be started ({first_line(error)}); "
                "free memory or processes, or set TMPDIR to a folder with a short path that can be written to"
            ) from error

    def _stop(self) -> None:
        """End the workers at once, whatever they do."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()
            pool.join()

    def _schedule(self, chunk: Chunk, spool: Path) -> _Task:
        path = spool / f".spool-{next(self._numbers)}"
        largest, total = chunk.sizes()
        seconds = self._seconds(total)
        arguments = (chunk, self.data, self._memory(largest), path, self.any_name)
        future = self._pool.schedule(worker_process.read, arguments, timeout=seconds)
        return _Task(chunk, seconds, path, future)

    def _results(self, pending: deque[_Task], spool: Path) -> Iterator[FileResults]:
        """The results of the first task; if it failed, its files are read one by one."""
        task = pending.popleft()
        try:
            yield from self._unpacked(task, ())
            return
        except (GltError, _Failure) as error:
            if isinstance(error, GltError):
                raise
            self._after(error, pending, spool)
        for chunk in task.chunk.singles():
            ((name, size),) = chunk.batch.sizes()
            try:
                yield from self._unpacked(self._schedule(chunk, spool), pending)
            except _Failure as error:
                self._after(error, pending, spool)
                yield name, iter([self._rejection(error.cause, size)])

    def _unpacked(self, task: _Task, before: Iterable[_Task]) -> Iterator[FileResults]:
        """The results of a task that is queued behind the tasks `before`.

        Raises:
            _Failure: the task gave no results.
        """
        try:
            try:
                packed = task.future.result(2 * sum(one.seconds for one in (task, *before)) + _START)
            except GltError:
                raise
            except Exception as error:
                lost = not task.future.done()  # a worker died before it could report its task
                raise _Failure(BrokenProcessPool("no answer") if lost else error) from error
            for name, results in groupby(worker_process.unpack(packed, task.spool), key=itemgetter(0)):
                yield name, (result for _, result in results)
        finally:
            task.spool.unlink(missing_ok=True)

    def _after(self, failure: _Failure, pending: Iterable[_Task], spool: Path) -> None:
        """Recover from a failed task: a worker that died may have left the pool locked, so a new pool is started."""
        if isinstance(failure.cause, (TimeoutError, MemoryError)):
            return
        done = [task.future.done() and task.future.exception() is None for task in pending]
        self._stop()
        self._start(self._workers)
        for task, is_done in zip(pending, done, strict=True):
            if not is_done:
                task.spool.unlink(missing_ok=True)
                again = self._schedule(task.chunk, spool)
                task.spool, task.future = again.spool, again.future

    def _seconds(self, size: int) -> float:
        return self.seconds + size / _BYTES_PER_SECOND

    def _memory(self, size: int) -> int:
        return self.memory + _COPIES * size

    def _rejection(self, error: BaseException, size: int) -> Rejection:
        """The rejection of a file of `size` bytes that could not be read within the limits."""
        from pebble import ProcessExpired

        memory = (
            f"takes more than {self._memory(size) >> 20:,} MiB of memory to read; if the file is valid, raise "
            f"{settings.FILE_MEMORY}"
        )
        if isinstance(error, TimeoutError):
            reason = f"not read within {self._seconds(size):.3g} s; if the file is valid, raise {settings.FILE_SECONDS}"
            return Rejection(TIME, reason)
        if isinstance(error, MemoryError):
            return Rejection(MEMORY, memory)
        if isinstance(error, (ProcessExpired, BrokenProcessPool)):
            number = -int(getattr(error, "exitcode", 0) or 0)
            if number in (signal.SIGKILL, signal.SIGABRT):
                return Rejection(MEMORY, f"ended the process that read it; it probably {memory}")
            name = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {-number}"
            return Rejection(CRASH, f"ended the process that read it ({name})")
        return Rejection("reader", f"cannot be read ({type(error).__name__}: {first_line(error)})")


def _cores() -> int:
    """Cores that this process may use; a container's quota counts."""
    import joblib

    cores: int = joblib.cpu_count()
    return cores


class _Failure(Exception):
    """A task gave no results."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause
