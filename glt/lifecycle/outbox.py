"""What a run has to tell MLflow, in order; while the server is away it waits on disk and arrives later.

Nothing waits as long as MLflow answers. From the first message that is not taken, all go to a folder of the run with a
journal, a line a message, so they outlive the process; the next process that connects to the same store delivers them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)

Message = dict[str, Any]
JOURNAL = "journal.jsonl"
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 240.0  # seconds from a failed delivery to the next try; each is twice the last
LAST_WAIT = 20.0  # seconds that a run which ends waits for a server that is away


class Outbox:
    """Messages of one process to one run."""

    def __init__(self, client: MlflowClient, store: str, run_id: str, place: Path) -> None:
        """Send to `run_id` in `store`; what must wait does so in a folder of `place`."""
        self._client, self._store, self._run_id = client, store, run_id
        self._folder = place / f"{run_id}-{uuid4().hex[:8]}"
        self._journal: IO[str] | None = None
        self._waiting: list[Message] = []
        self._kept = 0
        self._pause, self._next = FIRST_PAUSE, 0.0

    def send(self, kind: str, file: Path | None = None, **fields: Any) -> None:
        """Deliver a message, or keep it.

        Args:
            kind: metrics, params, tags, file, dataset or end; `deliver` says the fields.
            file: for the kind `file`; it is copied if it must wait.
            fields: JSON values; `run_id` for a run other than the outbox's.
        """
        message = {"run_id": self._run_id, "kind": kind, **fields}
        if not self._waiting:
            try:
                with once():
                    deliver(self._client, message, file)
            except Exception as error:  # MLflow, requests, sqlalchemy and boto each raise their own
                if refused(error):
                    _LOG.warning("MLflow did not take %s of run %s: %s", kind, self._run_id, _line(error))
                    return
                _LOG.warning(
                    "MLflow is away, the step goes on and what it has to tell waits in %s: %s",
                    self._folder,
                    _line(error),
                )
                self._pause, self._next = FIRST_PAUSE, time.monotonic() + FIRST_PAUSE
            else:
                return
        self._keep(message, file)
        if time.monotonic() >= self._next:
            self._try()

    def settle(self) -> None:
        """Before the process ends: wait a little for a server that is away, then leave the rest to the next run."""
        until = time.monotonic() + LAST_WAIT
        while self._waiting and not self._try() and time.monotonic() < until:
            time.sleep(1.0)
        if self._waiting:
            _LOG.warning(
                "MLflow is still away: %d messages wait in %s for the next run", len(self._waiting), self._folder
            )
        if self._journal is not None:
            self._journal.close()

    def _keep(self, message: Message, file: Path | None) -> None:
        if self._journal is None:
            self._folder.mkdir(parents=True)
            self._journal = (self._folder / JOURNAL).open("a", encoding="utf-8")
            fcntl.flock(self._journal, fcntl.LOCK_EX)  # ours while this process lives
            self._write({"store": self._store})
        if file is not None:
            self._kept += 1
            kept = self._folder / str(self._kept) / file.name
            kept.parent.mkdir()
            shutil.copyfile(file, kept)
            message["file"] = str(kept.relative_to(self._folder))
        self._waiting.append(message)
        self._write(message)

    def _write(self, line: Message) -> None:
        assert self._journal is not None
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def _try(self) -> bool:
        count = len(self._waiting)
        try:
            _deliver_all(self._client, self._waiting, self._folder)
        except Exception:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._next = time.monotonic() + self._pause
            return False
        _LOG.info("MLflow is back: %d messages delivered", count)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        return True


def replay(client: MlflowClient, store: str, place: Path) -> None:
    """Deliver to `store` what earlier processes left in `place`; what a living one keeps there is left to it."""
    for path in sorted(place.glob(f"*/{JOURNAL}")):
        try:
            with path.open(encoding="utf-8") as journal:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                header, *messages = _lines(journal) or [{}]
                if header.get("store", store) != store:
                    continue
                _deliver_all(client, messages, path.parent)
                shutil.rmtree(path.parent, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process has it, or has just delivered it
        except Exception as error:
            _LOG.warning("%s still waits for MLflow: %s", path.parent, _line(error))


def deliver(client: MlflowClient, message: Message, file: Path | None) -> None:
    """Tell MLflow one thing; telling it twice changes nothing.

    The fields by kind: metrics: rows of [name, value, milliseconds, step]; params, tags: values by name; untag: name;
    file: folder; dataset: name, digest, source, context; end: status, milliseconds.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    run_id = message["run_id"]
    match message["kind"]:
        case "metrics":
            client.log_batch(run_id, metrics=[Metric(*row) for row in message["rows"]])
        case "params":
            client.log_batch(run_id, params=[Param(name, value) for name, value in message["values"].items()])
        case "tags":
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in message["values"].items()])
        case "untag":
            if message["name"] in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, message["name"])
        case "file":
            client.log_artifact(run_id, str(file), message["folder"] or None)
        case "dataset":
            source = json.dumps({"uri": message["source"]})
            data = Dataset(message["name"], message["digest"], "dvc", source)
            context = InputTag("mlflow.data.context", message["context"])
            client.log_inputs(run_id, [DatasetInput(data, [context])])
        case "end":
            client.set_terminated(run_id, message["status"], message["milliseconds"])


def refused(error: Exception) -> bool:
    """Whether MLflow answered and will give the same answer again: a value it cannot take, a run that was deleted."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
    }


@contextmanager
def once(seconds: int = 8) -> Iterator[None]:
    """Within the block MLflow's HTTP requests are tried once and given up after `seconds`."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _deliver_all(client: MlflowClient, messages: list[Message], folder: Path) -> None:
    """Deliver in order; those delivered leave the list. Raises if the server is away."""
    while messages:
        file = messages[0].get("file")
        try:
            with once():
                deliver(client, messages[0], folder / file if file else None)
        except Exception as error:
            if not refused(error):
                raise
            kind, run = messages[0]["kind"], messages[0]["run_id"]
            _LOG.warning("MLflow did not take %s of run %s: %s", kind, run, _line(error))
        messages.pop(0)


def _lines(journal: IO[str]) -> list[Message]:
    lines = []
    for line in journal:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # the process was killed while it wrote this line, the last
    return lines


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
