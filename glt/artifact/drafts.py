"""Drafts: folders and files that are written under a temporary name beside their target and replace it atomically.

A draft is named ``.<name>.glt-<machine><random>`` and locked by the process that writes it. The system releases the
lock when that process ends, however it ends. `sweep` deletes drafts whose lock is free, and never touches a locked
draft or a file with another name.

Locks are `flock`'s, which NFS passes on to its server. Some network volumes lock on one machine only, so a draft of
another machine must also be a day old to be deleted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import hashlib
import itertools
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glt.errors import GltError

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"\.(?P<target>.+)\.glt-(?:(?P<machine>[0-9a-f]{4})[a-z0-9_]{8}|lock)", re.DOTALL)
SUFFIX = len("..glt-") + 4 + 8  # characters that a draft's name adds to its target's
_CONTENT, _REPLACED, _LOCK = "content", "replaced", "lock"  # in a draft of a folder
_DAY = 24 * 3600.0
_ATTEMPTS = 20
_PAUSE = 0.05  # seconds
_EXCHANGE, _CWD = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # of NFS, for one


class Draft:
    """A folder that is being written and will replace its target.

    Attributes:
        folder: the folder to fill.
    """

    def __init__(self, root: Path, target: Path) -> None:
        """Create the folder in the draft at `root`, which this process has locked."""
        self._root, self._target = root, target
        self.folder = root / _CONTENT
        self.folder.mkdir()

    def commit(self) -> None:
        """Move the folder to its target, where the old or the new one is at every instant, even if the process dies.

        Afterwards `folder` is the old one, if there was one; committing once more puts that back.

        Raises:
            OSError: the folder could not be renamed; the old one is still at the target.
        """
        for attempt in range(_ATTEMPTS):
            try:
                if os.path.lexists(self._target):
                    self._replace()
                else:
                    os.rename(self.folder, self._target)  # noqa: PTH104 - all renames go by `os`
                return
            except OSError as error:  # another process was faster: try again
                if error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY) or attempt == _ATTEMPTS - 1:
                    raise

    def _replace(self) -> None:
        try:
            exchange(self.folder, self._target)
        except OSError as error:
            if error.errno not in _NO_EXCHANGE:
                raise
        else:
            return
        # If the process is killed between the two renames, the next process restores the old folder (`restore`).
        os.rename(self._target, self._root / _REPLACED)  # noqa: PTH104
        try:
            os.rename(self.folder, self._target)  # noqa: PTH104
        except BaseException:
            _restore(self._root)
            raise
        os.rename(self._root / _REPLACED, self.folder)  # noqa: PTH104


@contextmanager
def draft(path: Path) -> Iterator[Draft]:
    """A draft of the folder at `path`; its remains are deleted when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root, lock = _new(path)
    try:
        yield Draft(root, path)
    finally:
        _delete(root)
        os.close(lock)


def delete(path: Path) -> None:
    """Delete a folder atomically: at every instant it is complete or absent.

    Raises:
        OSError: the folder could not be renamed, and stays.
    """
    with draft(path) as aside:
        os.rename(path, aside.folder)  # noqa: PTH104 - all renames go by `os`


@contextmanager
def draft_file(path: Path) -> Iterator[tuple[int, Path]]:
    """A locked temporary file beside `path`: its descriptor and its name; it is deleted unless it was renamed."""
    for _ in range(_ATTEMPTS):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.glt-{machine()}")
        temporary = Path(name)
        if _try_lock(handle, temporary):
            break
        os.close(handle)
    try:
        yield handle, temporary
    finally:
        with suppress(OSError):
            temporary.unlink()
        os.close(handle)


@contextmanager
def reserve(path: Path, wait: str = "") -> Iterator[None]:
    """Reserve `path` until the block ends, against other processes that reserve it.

    On a file system without locks nothing is reserved.

    Args:
        path: where something will be written; its parent folder is created.
        wait: message to log once while waiting for another process; if empty, a reserved path is an error.

    Raises:
        GltError: another process has reserved the path.
    """
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.parent / f".{path.name}.glt-lock"
    handle = _lock_file(file, path, wait)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(handle)


def _lock_file(file: Path, path: Path, wait: str) -> int:
    """Lock the lock file of `path`; returns its descriptor."""
    for attempt in itertools.count():
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if _try_lock(handle, file):
            return handle
        if wait:
            if attempt == 0:
                _LOG.info("%s", wait)
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        os.close(handle)
        if not wait:
            time.sleep(_PAUSE)  # `sweep` also holds a lock for a moment
            if attempt == 4:
                raise GltError(f"{path}: another process is writing it; wait until it ends, or give another path")
    raise AssertionError


def sweep(folder: Path) -> None:
    """Delete the drafts in a folder whose processes have ended, after restoring the folders that they set aside."""
    for entry in _drafts(folder):
        _sweep_draft(entry)


def restore(path: Path) -> None:
    """Restore the folder that a killed process set aside at `path`; a live process is given a second to finish."""
    for _ in range(_ATTEMPTS):
        entries = [entry for entry in _drafts(path.parent, path.name) if (entry / _REPLACED).exists()]
        if not entries or os.path.lexists(path):
            return
        for entry in entries:
            _sweep_draft(entry)
        if not os.path.lexists(path):
            time.sleep(_PAUSE)


def exchange(first: Path, second: Path) -> None:
    """Exchange two paths at one instant.

    Raises:
        OSError: ENOSYS if the system has no such call, EINVAL if the file system does not support it.
    """
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_CWD, os.fsencode(first), _CWD, os.fsencode(second), _EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(second))


@functools.cache
def _renameat2() -> ctypes._NamedFuncPointer | None:
    """The system call of Linux in the C library, which Python does not offer."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call


@functools.cache
def machine() -> str:
    """Four hex digits for the running system, the same in all its containers."""
    try:
        running = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        running = os.uname().nodename
    return hashlib.sha256(running.encode()).hexdigest()[:4]


def _new(path: Path) -> tuple[Path, int]:
    """A new, locked draft of the folder `path`, and the descriptor of its lock."""
    for attempt in range(_ATTEMPTS):
        root = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.glt-{machine()}"))
        try:
            handle = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if _try_lock(handle, root / _LOCK):
                return root, handle
            os.close(handle)
        except FileNotFoundError:  # swept while it was empty
            if attempt == _ATTEMPTS - 1:
                raise
        except BaseException:
            _delete(root)
            raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


def _try_lock(handle: int, file: Path) -> bool:
    """Lock an open file; False if another process has locked it, or deleted it before it was locked."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), file.lstat())
    return False


def _drafts(folder: Path, target: str | None = None) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if ".glt-" in entry.name]
    except OSError:
        return []
    matches = [(name, _NAME.fullmatch(name)) for name in names]
    return [folder / name for name, match in matches if match and target in (None, match["target"])]


def _sweep_draft(entry: Path) -> None:
    """Delete a draft, unless a process has locked it."""
    with suppress(OSError):
        state = entry.lstat()
        if stat.S_ISDIR(state.st_mode):
            names = {one.name for one in entry.iterdir()}
            if not names:
                entry.rmdir()
            if _LOCK not in names or names - {_LOCK, _CONTENT, _REPLACED}:
                return
        elif not stat.S_ISREG(state.st_mode):
            return
        match = _NAME.fullmatch(entry.name)
        if match and match["machine"] not in (None, machine()) and time.time() - _last_change(entry) < _DAY:
            return
        lock = entry / _LOCK if stat.S_ISDIR(state.st_mode) else entry
        handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock == entry:
                entry.unlink()
            else:
                _restore(entry)
                _delete(entry)
        finally:
            os.close(handle)


def _last_change(entry: Path) -> float:
    return max((path.lstat().st_mtime for path in (entry, *entry.rglob("*"))), default=0.0)


def _restore(root: Path) -> None:
    """Move the folder that a draft has set aside back, if nothing is at its target."""
    match = _NAME.fullmatch(root.name)
    if match and (root / _REPLACED).exists() and not os.path.lexists(root.parent / match["target"]):
        os.rename(root / _REPLACED, root.parent / match["target"])  # noqa: PTH104


def _delete(root: Path) -> None:
    """Delete a draft, its lock last, so that the remains after a kill are still recognised as a draft."""
    with suppress(OSError):
        shutil.rmtree(root / _CONTENT, ignore_errors=True)
        shutil.rmtree(root / _REPLACED, ignore_errors=True)
        if not (root / _CONTENT).exists() and not (root / _REPLACED).exists():
            (root / _LOCK).unlink(missing_ok=True)
            root.rmdir()
