"""A failure of the machine ends every program with one line and the remedy; a program's errors keep their traceback."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from glt import logs
from glt.errors import GltError, machine_failure


def raise_(error: BaseException) -> None:
    raise error


def chained() -> None:
    """As MLflow and DVC pass on what a disk says."""
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/store/a")
    except OSError as error:
        raise RuntimeError("could not store") from error


def short_write() -> None:
    with Path("/dev/full").open("wb") as stream:
        np.save(stream, np.zeros(10_000_000))


def full_database() -> None:
    with sqlite3.connect(":memory:") as store:
        store.execute("pragma max_page_count = 1")
        store.execute("create table a (b)")


FAILURES = {
    "disk full": (lambda: raise_(OSError(errno.ENOSPC, "x", "/out/a")), "/out/a: No space left on device; make room"),
    "quota": (lambda: raise_(OSError(errno.EDQUOT, "x", b"/out/a")), "/out/a: Disk quota exceeded; make room within"),
    "read-only": (lambda: raise_(OSError(errno.EROFS, "x", "/out/a")), "/out/a: Read-only file system; give another"),
    "permission": (lambda: raise_(PermissionError(errno.EACCES, "x", "/a")), "/a: Permission denied; correct the perm"),
    "open files": (lambda: raise_(OSError(errno.EMFILE, "x")), "Too many open files; raise the limit on open files"),
    "failing disk": (lambda: raise_(OSError(errno.EIO, "x", "/out/a")), "/out/a: Input/output error; check the disk"),
    "memory": (lambda: raise_(MemoryError()), "out of memory; give the process more memory"),
    "memory of torch": (lambda: torch.empty(2**58), "out of memory; give the process more memory"),
    "passed on": (chained, "/store/a: No space left on device; make room"),
    "NumPy": (short_write, "No space left on device; make room"),
    "SQLite": (full_database, "database or disk is full; make room"),
    "no TMPDIR": (
        lambda: raise_(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")),
        "no folder for temporary files can be written to; make room in /tmp, or set TMPDIR",
    ),
}


@pytest.mark.fault(
    "the machine fails anywhere in a command: disk full or read-only, no quota, file handles or memory",
    "one line, exit 1",
)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_of_the_machine_is_one_line(failure: str, capsys: pytest.CaptureFixture[str]) -> None:
    function, line = FAILURES[failure]
    with pytest.raises(SystemExit) as ended:
        logs.run_entry(function)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert line in said
    assert said.count("\n") == 1
    assert said.startswith("glt: error: ")


def test_details_show_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    def entry() -> None:
        logs.set_verbosity(1)
        chained()

    with pytest.raises(SystemExit):
        logs.run_entry(entry)
    assert "could not store" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a"), OSError(errno.ENOENT, "No such file", "/a")])
def test_an_error_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert not machine_failure(error)
    with pytest.raises(type(error)):
        logs.run_entry(raise_, error)


def test_an_error_for_the_user_is_not_replaced_by_its_cause() -> None:
    def entry() -> None:
        try:
            chained()
        except RuntimeError as error:
            raise GltError("mine") from error

    with pytest.raises(SystemExit):
        logs.run_entry(entry)


@pytest.mark.fault("the disk behind a command's output is full", "one line, exit 1")
def test_output_to_a_full_disk_is_one_line() -> None:
    script = "from glt import logs\nlogs.run_entry(print, 'a table')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("glt: error: No space left on device; make room")
    assert done.stderr.count("\n") == 1


def test_output_to_a_reader_that_has_ended_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = "from glt import logs\nlogs.run_entry(print, 'a table')"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=-1, env=environment, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
