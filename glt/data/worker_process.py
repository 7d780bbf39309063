"""The part of `glt.data.workers` that runs in the worker processes, which are killed if a file takes too long."""

from __future__ import annotations

import fcntl
import io
import multiprocessing
import os
import pickle
import resource
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

from glt.data import archives
from glt.data.archives import Members
from glt.data.chunk_reader import read_files
from glt.data.recording import Recording, Rejection
from glt.data.sources import Chunk
from glt.recipe import DataConfig

_SEGMENT = 16 << 20  # bytes of results that are held before they go to the disk
_LENGTH = struct.Struct("<Q")


def start() -> None:
    """Prepare a worker: it ends with the process that started it, even in the middle of a call that never returns."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # The kernel sends SIGIO, which ends the process, when the parent's end of this pipe is closed.
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)


def ready() -> None:
    """Do nothing: the answer shows that the worker has started."""


def read(chunk: Chunk, data: DataConfig, memory: int, spool: Path, any_name: bool = False) -> bytes:
    """Read a chunk and pack its results, for `unpack`.

    Args:
        chunk: files to read.
        data: the format and the checks.
        memory: bytes that the process may use in addition to what it uses now.
        spool: path of a file for results that are too large to be sent; it is created only if needed.
        any_name: accept files without the format's name or label.

    Raises:
        MemoryError: more memory was needed.
        MachineFailure: such as an input/output error or a full disk.
    """
    limit_memory(memory)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    for name, results in read_files(chunk, data, any_name):
        for result in results:
            pickler.dump((name, result))
            if buffer.tell() > _SEGMENT:
                with spool.open("ab") as stream:
                    stream.write(_LENGTH.pack(buffer.tell()))
                    stream.write(buffer.getbuffer())
                buffer = io.BytesIO()
                pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    return buffer.getvalue()


def unpack(packed: bytes, spool: Path) -> Iterator[tuple[str, Recording | Rejection]]:
    """(file name, result) for each result that `read` packed, in order."""
    if spool.exists():
        with spool.open("rb") as stream:
            while head := stream.read(_LENGTH.size):
                yield from _unpickle(stream.read(_LENGTH.unpack(head)[0]))
    yield from _unpickle(packed)


def _unpickle(packed: bytes) -> Iterator[tuple[str, Recording | Rejection]]:
    stream = io.BytesIO(packed)
    unpickler = pickle.Unpickler(stream)  # noqa: S301 - written by our own worker
    while stream.tell() < len(packed):
        yield unpickler.load()


def list_members(path: Path, memory: int) -> Members:
    """List an archive; see `archives.list_members`."""
    limit_memory(memory)
    return archives.list_members(path)


def limit_memory(more: int) -> None:
    """Limit what this process may allocate to `more` bytes above what it has now."""
    used = _data_bytes()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = used + more
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _data_bytes() -> int:
    """Bytes that count against RLIMIT_DATA; 0 if the system does not report them."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:")), 0)
