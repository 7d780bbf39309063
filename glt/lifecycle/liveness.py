"""Finds the runs of killed processes by the locks that these held, and closes them in MLflow.

While a process works on a run, it holds a lock on a file in GLT_HOME that names the run. The system releases the lock
when the process ends, however it ends, so an unlocked file belongs to a killed process. Files of other machines are
left alone: a lock says nothing about a process elsewhere.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import first_line
from glt.file_lock import LockedError, file_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)

_FOLDER = Path("locks", "runs")  # in GLT_HOME
_PATIENCE = 5.0  # seconds; `close_dead` of another process holds a lock while it asks MLflow


@contextmanager
def alive(*run_ids: str) -> Iterator[None]:
    """Mark runs as worked on by this process within the block; if it is killed, `close_dead` closes them."""
    file = settings.home() / _FOLDER / run_ids[0]
    with ExitStack() as stack:
        with suppress(OSError):  # a folder that this process may not write to, or that has no locks
            stack.enter_context(file_lock(file, "working on a run", _PATIENCE))
            file.write_text(json.dumps({"host": socket.gethostname(), "runs": run_ids}), encoding="utf-8")
            stack.callback(_remove, file)
        yield


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    if not settings.is_local():  # a pod's GLT_HOME stays as it was
        with suppress(OSError):
            for folder in (file.parent, file.parent.parent, settings.home()):
                folder.rmdir()


def close_dead(client: MlflowClient) -> None:
    """Close the open runs of processes of this machine that were killed, with the status KILLED."""
    for file in sorted((settings.home() / _FOLDER).glob("*")):
        try:
            with file_lock(file, "closing a run"):
                if _close(client, file):
                    file.unlink(missing_ok=True)
        except LockedError:
            continue  # its process lives
        except Exception as error:  # MLflow, requests and sqlalchemy each raise their own; the next command tries again
            _LOG.debug("%s: the run is not closed: %s", file, first_line(error))


def _close(client: MlflowClient, file: Path) -> bool:
    """True if there is nothing left to do for a file."""
    from mlflow.exceptions import MlflowException

    try:
        left = json.loads(file.read_text(encoding="utf-8"))
        host, run_ids = left["host"], [str(run_id) for run_id in left["runs"]]
    except (ValueError, TypeError, KeyError):
        return True  # killed before it was written
    if host != socket.gethostname():
        return False
    for run_id in run_ids:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                continue
            raise
        if run.info.status == "RUNNING":
            client.set_tag(run_id, "error", f"{run.info.run_name} was killed: its process never reported its end")
            client.set_terminated(run_id, "KILLED")
            _LOG.info("run %s (%s) is closed: its process was killed", run.info.run_name, run_id)
    return True
