"""Folders that only this user can read, and that exist as long as the process that made them."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from glt import settings
from glt.artifact.drafts import machine

_MODELS = "models"  # in GLT_HOME: /tmp is cleaned while a server runs for weeks
_NAME = re.compile(r"copy-(?P<machine>[0-9a-f]{4})-[a-z0-9_]{8}")
_DAY = 24 * 3600.0
_open: dict[Path, tuple[int, int]] = {}  # folder -> descriptor of its lock, process that made it


def create() -> Path:
    """Create an empty folder in GLT_HOME, and delete those whose processes have ended, however they ended."""
    root = settings.home() / _MODELS
    root.mkdir(parents=True, exist_ok=True)
    for entry in root.iterdir():
        _sweep(entry)
    _delete_at_exit()
    while True:
        folder = Path(tempfile.mkdtemp(dir=root, prefix=f"copy-{machine()}-"))
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # another process swept it before it was locked
            continue
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        if folder.exists():
            _open[folder] = handle, os.getpid()
            return folder
        os.close(handle)


def delete(folder: Path) -> None:
    """Delete a folder of `create` before the process ends."""
    handle, _ = _open.pop(folder)
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def keep_across_exec(folder: Path) -> None:
    """Let the program that replaces this one in its process keep a folder of `create`."""
    os.set_inheritable(_open[folder][0], True)


@functools.cache
def _delete_at_exit() -> None:
    atexit.register(_delete_all)


def _delete_all() -> None:
    for folder in [folder for folder, (_, process) in _open.items() if process == os.getpid()]:  # a fork has others
        delete(folder)


def _sweep(folder: Path) -> None:
    """Delete a folder of `create` unless a process has locked it, or may have on another machine."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        return
    with suppress(OSError):
        if match["machine"] != machine() and time.time() - folder.stat().st_mtime < _DAY:
            return  # some network volumes lock on one machine only
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
