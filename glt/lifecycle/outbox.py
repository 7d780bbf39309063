"""Messages to MLflow, delivered in order; while the server is away they are queued on disk and delivered later.

Nothing is queued as long as MLflow responds. From the first message that fails, all go to a journal in a folder of the
run, one JSON line per message, so they outlive the process. The next process that connects to the same store delivers
them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

from glt import settings
from glt.errors import first_line
from glt.file_lock import LockedError, file_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)

Message = dict[str, Any]
JOURNAL = "journal.jsonl"
_FIELDS = {  # of a message in a journal, by its kind
    "metrics": {"rows"},
    "params": {"values"},
    "tags": {"values"},
    "untag": {"name"},
    "file": {"file", "folder"},
    "dataset": {"name", "digest", "source", "context"},
    "end": {"status", "milliseconds"},
}
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 240.0  # seconds from a failed delivery to the next attempt; each doubles the last
LAST_WAIT = 20.0  # seconds that a run which ends waits for a server that is away


class Outbox:
    """The messages of one process to one run."""

    def __init__(self, client: MlflowClient, store: str, run_id: str, spool: Path) -> None:
        """Send to `run_id` in `store`; queue messages in a folder below `spool`."""
        self._client, self._store, self._run_id = client, store, run_id
        self._folder = spool / f"{run_id}-{uuid4().hex[:8]}"
        self._journal: IO[str] | None = None
        self._lock = ExitStack()  # on the journal, while this process lives
        self._queue: list[Message] = []
        self._files = 0
        self._pause, self._next_attempt = FIRST_PAUSE, 0.0

    def send(self, kind: str, file: Path | None = None, **fields: Any) -> None:
        """Deliver a message, or queue it.

        Args:
            kind: metrics, params, tags, untag, file, dataset or end; `deliver` lists the fields.
            file: for the kind `file`; it is copied if it is queued.
            fields: JSON values; `run_id` for a run other than the outbox's.
        """
        message = {"run_id": self._run_id, "kind": kind, **fields}
        if not self._queue:
            try:
                with without_retries():
                    deliver(self._client, message, file)
            except Exception as error:  # MLflow, requests, sqlalchemy and boto each raise their own
                if is_permanent(error):
                    _LOG.warning("MLflow did not take %s of run %s: %s", kind, self._run_id, first_line(error))
                    return
                _LOG.warning(
                    "MLflow is away, the step goes on and its messages wait in %s: %s", self._folder, first_line(error)
                )
                self._pause, self._next_attempt = FIRST_PAUSE, time.monotonic() + FIRST_PAUSE
            else:
                return
        self._enqueue(message, file)
        if time.monotonic() >= self._next_attempt:
            self._deliver_queue()

    def settle(self) -> bool:
        """Before the process ends: wait a little for a server that is away, then leave the queue to the next run.

        Returns:
            True if nothing is left.
        """
        deadline = time.monotonic() + LAST_WAIT
        while self._queue and not self._deliver_queue() and time.monotonic() < deadline:
            time.sleep(1.0)
        if self._queue:
            _LOG.warning(
                "MLflow is still away: %d messages wait in %s for the next run", len(self._queue), self._folder
            )
        self._close()
        return not self._queue

    def _enqueue(self, message: Message, file: Path | None) -> None:
        if self._journal is None:
            self._lock.enter_context(file_lock(self._folder / JOURNAL, "queueing", patience=None))
            self._journal = (self._folder / JOURNAL).open("a", encoding="utf-8")
            self._write({"store": self._store})
        if file is not None:
            self._files += 1
            copy = self._folder / str(self._files) / file.name
            copy.parent.mkdir()
            shutil.copyfile(file, copy)
            message["file"] = str(copy.relative_to(self._folder))
        if message["kind"] == "metrics":
            message["once"] = True  # whichever process delivers them
        self._queue.append(message)
        self._write(message)

    def _write(self, line: Message) -> None:
        assert self._journal is not None
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def _deliver_queue(self) -> bool:
        count = len(self._queue)
        try:
            _deliver_all(self._client, self._queue, self._folder)
        except Exception:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._next_attempt = time.monotonic() + self._pause
            return False
        _LOG.info("MLflow is back: %d messages delivered", count)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._close()
        return True

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._lock.close()


def replay(client: MlflowClient, store: str, spool: Path) -> None:
    """Deliver to `store` the messages that earlier processes queued in `spool`; those of a running process stay."""
    for journal in sorted(spool.glob(f"*/{JOURNAL}")):
        try:
            with file_lock(journal, "delivering queued messages"):
                header, messages = _read(journal)
                if not _is_same_store(header.get("store", store), store):
                    continue
                _deliver_all(client, messages, journal.parent)
                shutil.rmtree(journal.parent, ignore_errors=True)
        except LockedError:
            continue  # another process delivers it, or still writes it
        except Exception as error:
            _LOG.warning("%s still waits for MLflow: %s", journal.parent, first_line(error))


def _is_same_store(queued_for: str, store: str) -> bool:
    """True also if the store is a SQLite file that has been moved with the journal's folder."""
    old, new = settings.sqlite_file(queued_for), settings.sqlite_file(store)
    return queued_for == store or (old is not None and new is not None and old.name == new.name and not old.exists())


def deliver(client: MlflowClient, message: Message, file: Path | None) -> None:
    """Send one message to MLflow; sending it twice has no further effect.

    The fields by kind: metrics: rows of [name, value, milliseconds, step], and once: skip recorded rows; params, tags:
    values by name; untag: name; file: folder; dataset: name, digest, source, context; end: status, milliseconds.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    run_id = message["run_id"]
    match message["kind"]:
        case "metrics":
            rows = _missing(client, run_id, message["rows"]) if message.get("once") else message["rows"]
            client.log_batch(run_id, metrics=[Metric(*row) for row in rows])
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


def _missing(client: MlflowClient, run_id: str, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The metrics that the run does not have yet; a resumed training may have recorded the same epochs meanwhile.

    Step 0 is that of metrics without steps, whose last value counts.
    """
    recorded = {name: client.get_metric_history(run_id, name) for name in {row[0] for row in rows}}
    known = {(name, point.step) for name, points in recorded.items() for point in points if point.step > 0}
    known_values = {(name, point.step, point.value) for name, points in recorded.items() for point in points}
    return [
        row for row in rows if (row[0], row[3]) not in known and (row[0], row[3], float(row[1])) not in known_values
    ]


def is_permanent(error: Exception) -> bool:
    """True if MLflow will respond the same way again: an invalid value, or a run that was deleted."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
    }


@contextmanager
def without_retries(seconds: int = 8, retries: int = 0) -> Iterator[None]:
    """Within the block MLflow's HTTP requests have a timeout of `seconds` and are repeated `retries` times."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _deliver_all(client: MlflowClient, messages: list[Message], folder: Path) -> None:
    """Deliver in order; delivered messages leave the list. Raises if the server is away."""
    while messages:
        file = messages[0].get("file")
        try:
            with without_retries():
                deliver(client, messages[0], folder / file if file else None)
        except Exception as error:
            if not is_permanent(error):
                raise
            kind, run_id = messages[0]["kind"], messages[0]["run_id"]
            _LOG.warning("MLflow did not take %s of run %s: %s", kind, run_id, first_line(error))
        messages.pop(0)


def _read(journal: Path) -> tuple[Message, list[Message]]:
    """The first line of a journal and its messages; those that are damaged or have lost their file are left out."""
    *lines, last = journal.read_bytes().split(b"\n")
    lines += [last] if _parse(last) else []  # else it is empty, or the process was killed while it wrote it
    header, messages = _parse(lines[0]) if lines else {}, []
    for number, line in enumerate(lines[1:], 2):
        message = _parse(line)
        whole = message.keys() >= {"run_id"} | _FIELDS.get(str(message.get("kind")), {"kind of message"})
        if whole and (journal.parent / str(message.get("file", ""))).exists():
            messages.append(message)
        else:
            _LOG.warning("%s: line %d is damaged, or its file is gone; it is left out", journal, number)
    return header, messages


def _parse(line: bytes) -> Message:
    """The JSON object in a line; empty if there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
