"""Processes forked from a server that has imported the readers, so that they start in milliseconds.

Like the `forkserver` of `multiprocessing`, except that a process starts in the parent's current folder and does not
import the parent's main module, which may be slow (kfp), unguarded (a script) or not a file (a notebook).
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections import deque
from multiprocessing import context, forkserver, popen_forkserver, process, reduction, synchronize, util
from typing import ClassVar


@functools.cache
def _server(preload: str) -> forkserver.ForkServer:
    """The server of this process whose children have imported the module `preload`; it starts with the first child."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload([preload])
    return server


class _Popen(popen_forkserver.Popen):
    _fds: list[int]

    def __init__(self, process_obj: process.BaseProcess, preload: str) -> None:
        self._preload = preload
        super().__init__(process_obj)

    def _launch(self, process_obj: process.BaseProcess) -> None:
        """Start the process; see `multiprocessing.popen_forkserver`."""
        preparation = {
            "name": process_obj.name,
            "authkey": process.current_process().authkey,
            "sys_path": [path or os.getcwd() for path in sys.path],  # noqa: PTH109 - of strings
            "sys_argv": sys.argv,
            "dir": os.getcwd(),  # noqa: PTH109
        }
        packed = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, packed)
            reduction.dump(process_obj, packed)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, writer = _server(self._preload).connect_to_new_process(self._fds)
        # A duplicate stays open until this process ends, so that the child notices the end.
        self.finalizer = util.Finalize(self, _close, (os.dup(writer), self.sentinel))
        with open(writer, "wb", closefd=True) as stream:  # noqa: PTH123 - a descriptor
            stream.write(packed.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def fork_server(preload: str) -> context.ForkServerContext:
    """A multiprocessing context of processes that have imported the module `preload`."""

    class Process(context.ForkServerProcess):
        @staticmethod
        def _Popen(process_obj: process.BaseProcess) -> _Popen:
            return _Popen(process_obj, preload)

        def __reduce__(self) -> tuple[object, ...]:
            """Pickle it as an ordinary process, since this class is local."""
            return _process, (self.__dict__,)

    made = _Context()
    made.Process = Process  # type: ignore[misc]
    return made


class _Context(context.ForkServerContext):
    """A context that keeps its last locks alive, so that a process that is still starting finds them."""

    _locks: ClassVar[deque[synchronize.RLock]] = deque(maxlen=8)

    def RLock(self) -> synchronize.RLock:
        lock = super().RLock()
        self._locks.append(lock)
        return lock


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _process(state: dict[str, object]) -> process.BaseProcess:
    child = context.ForkServerProcess.__new__(context.ForkServerProcess)
    child.__dict__.update(state)
    return child
