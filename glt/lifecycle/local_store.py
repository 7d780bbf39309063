"""The MLflow store of this machine: a SQLite file that is created once, migrated atomically, and moves with its folder.

MLflow's migrations take no lock and are not one transaction: two at once, or one that is killed, leave a file that
MLflow cannot open. So a store is created and migrated as a draft beside it, under a lock, and replaced atomically: by
a rename where there was no file, else by a single SQLite transaction, since other processes may have it open.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import GltError, first_line
from glt.file_lock import file_lock

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_LOG = logging.getLogger(__name__)

ARTIFACTS = "mlartifacts"  # folder of the runs' artifacts in GLT_HOME
_PATIENCE = 20.0  # seconds to wait for another process's transaction
_LOCATIONS = (  # the columns that hold addresses of artifacts
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
_JOURNALS = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside a database
_BY_MLFLOW = {"alembic_version", "workspaces"}  # tables that have rows in an unused store


def prepare(file: Path) -> None:
    """Create the store if there is none, migrate an older one, and correct addresses if GLT_HOME has moved.

    Any number of processes may call this at once. A store that is ready is only read.

    Raises:
        GltError: the file is not an MLflow store, is a newer MLflow's, or cannot be migrated.
        sqlite3.Error: the file cannot be read or written.
        OSError: likewise.
    """
    if not is_ready(file):
        with locked(file):
            if not is_ready(file):
                _make_ready(file)
    _follow_home(file, settings.home())


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Lock the store against other processes that create or change it; no lock if its folder does not support one."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(file_lock(Path(f"{file}.lock"), "using the store", patience=None))
        yield


def is_ready(file: Path) -> bool:
    """True if the file is a store with the installed MLflow's schema.

    Raises:
        GltError: the file is not a SQLite database, or not MLflow's.
    """
    import mlflow.store.db.utils  # noqa: F401  # completes the metadata
    from mlflow.store.db.base_sql_model import Base

    tables = _tables(file)
    return set(Base.metadata.tables) <= tables and revision(file) == installed_revision()


def installed_revision() -> str:
    """The schema of the installed MLflow."""
    return str(_migrations().get_current_head())


def revision(file: Path) -> str:
    """The schema of a store; an empty string if it has none yet."""
    if "alembic_version" not in _tables(file):
        return ""
    with _open(file) as database:
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found[0]) if found else ""


def is_known(found: str) -> bool:
    """True if the installed MLflow can migrate from this schema."""
    from alembic.util import CommandError

    try:
        return _migrations().get_revision(found) is not None
    except CommandError:
        return False


def _migrations() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    spec = importlib.util.find_spec("mlflow")  # importing it would take seconds
    assert spec is not None
    assert spec.origin is not None
    return ScriptDirectory(str(Path(spec.origin).parent / "store" / "db_migrations"))


def _tables(file: Path) -> set[str]:
    """The tables of a store; none if the file is missing or empty."""
    if not file.exists() or not file.stat().st_size:
        return set()
    try:
        with _open(file) as database:
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.OperationalError:  # locked, read-only, no permission
        raise
    except sqlite3.DatabaseError as error:
        raise GltError(
            f"{file} is not a SQLite database ({first_line(error)}); restore it from a backup, or move it away: the "
            "next command creates a new one"
        ) from error
    tables = {str(name) for (name,) in names if not str(name).startswith("sqlite_")}
    if tables - {"alembic_version"} and "experiments" not in tables:
        raise GltError(f"{file} is a database of another program; set {settings.TRACKING_URI} to another file")
    return tables


@contextmanager
def _open(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, timeout=_PATIENCE)) as database, database:
        yield database


def _make_ready(file: Path) -> None:
    draft = file.with_name(f"{file.name}.draft")
    for leftover in (draft, *_beside(draft)):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    if not _tables(file):
        if file.exists() and (settings.home() / ARTIFACTS).exists():
            _LOG.warning("%s is empty, so a new store is created; restore a backup to have the records again", file)
        _create(file, draft)
        return
    before = revision(file)
    if before and not is_known(before):
        raise GltError(
            f"{file} was written by a newer MLflow (schema {before}); install that one (make setup in a newer checkout "
            f"does), or set {settings.HOME} to another folder"
        )
    counter = _change_counter(file)
    _copy(file, draft)
    try:
        _migrate(draft)
        if not is_ready(draft):
            raise GltError("a table is missing")
    except Exception as error:  # alembic, sqlalchemy and sqlite3 each raise their own
        if _has_records(file):
            raise GltError(
                f"{file}: its schema ({before or 'unfinished'}) cannot be migrated to {installed_revision()} "
                f"({first_line(error)}); nothing was changed: restore a backup, or move the file away"
            ) from error
        aside = _move_aside(file)
        _LOG.warning("%s was left unfinished by a killed process; it had no runs and is now %s", file, aside.name)
        _make_ready(file)
        return
    if _has_records(file):
        kept = file.with_name(f"{file.name}.schema-{before or 'unfinished'}")
        _copy(file, kept)
        _LOG.info("%s is migrated to the schema of this MLflow; the old store is kept as %s", file, kept.name)
    if _change_counter(file) != counter:
        raise GltError(f"{file} was changed by a running process during its migration; stop that process and retry")
    _copy(draft, file)
    draft.unlink()


def _create(file: Path, draft: Path) -> None:
    _migrate(draft)
    if any(journal.exists() for journal in _beside(file)):  # SQLite would apply it to the new file
        _move_aside(file)
    if file.exists():  # empty: it keeps its owner and its permissions
        _copy(draft, file)
        draft.unlink()
    else:
        draft.replace(file)


def _copy(source: Path, target: Path) -> None:
    """Replace the content of a store in one transaction."""
    with _open(source) as old, _open(target) as new:
        old.backup(new)


def _migrate(draft: Path) -> None:
    """Migrate a database to the installed MLflow's schema, with the experiment that MLflow always has."""
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = settings.sqlite_uri(draft)
    engine = utils.create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    try:
        if revision(draft):
            utils._upgrade_db(engine)  # type: ignore[no-untyped-call]
        else:
            utils._initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
    try:
        SqlAlchemyStore(uri, (settings.home() / ARTIFACTS).as_uri())  # type: ignore[no-untyped-call]
    finally:
        SqlAlchemyStore._engine_map.pop(uri).dispose()


def _has_records(file: Path) -> bool:
    """True if the store has been used, or if that cannot be determined."""
    try:
        with _open(file) as database:
            for table in _tables(file) - _BY_MLFLOW:
                rows = "experiment_id <> 0" if table == "experiments" else "1"
                if database.execute(f'SELECT 1 FROM "{table}" WHERE {rows} LIMIT 1').fetchone():
                    return True
    except sqlite3.Error:
        return True
    return False


def _move_aside(file: Path) -> Path:
    stamp = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}"
    aside = file.with_name(f"{file.name}.damaged-{stamp}")
    for old in (*_beside(file), file):
        if old.exists():
            old.rename(aside.with_name(aside.name + old.name.removeprefix(file.name)))
    return aside


def _beside(file: Path) -> list[Path]:
    return [file.with_name(file.name + ending) for ending in _JOURNALS]


def _change_counter(file: Path) -> bytes:
    """SQLite's count of the transactions on a file."""
    with file.open("rb") as header:
        header.seek(24)
        return header.read(4)


def _follow_home(file: Path, home: Path) -> None:
    """Correct the addresses of artifacts, which MLflow stores as absolute paths, if GLT_HOME has been moved or copied.

    Addresses outside a GLT_HOME are left alone. So are those in a GLT_HOME that exists, if the artifacts are not here
    or the store is not in this GLT_HOME.
    """
    moved = {root for root in _roots(file) if _has_moved(root, file, home)}
    if not moved:
        return
    here = f"{home.as_uri()}/{ARTIFACTS}/"
    try:
        with locked(file), _open(file) as database:
            for root in moved:
                there = f"{root}/{ARTIFACTS}/"
                for table, column in _LOCATIONS:
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (here, len(there) + 1, len(there), there),
                    )
    except sqlite3.OperationalError as error:
        _LOG.warning("%s has moved, but %s cannot be changed: %s", home, file, first_line(error))
        return
    _LOG.info("%s has moved to %s; the addresses in MLflow are corrected", ", ".join(map(_path, sorted(moved))), home)


def _roots(file: Path) -> set[str]:
    """The folders, as URIs, that hold the artifacts of experiments and models."""
    with _open(file) as database:
        found = database.execute(
            "SELECT artifact_location FROM experiments UNION SELECT source FROM model_versions "
            "UNION SELECT artifact_location FROM logged_models"
        ).fetchall()
    parts = (str(address).rpartition(f"/{ARTIFACTS}/") for (address,) in found if address)
    return {root for root, separator, _ in parts if separator and root.startswith("file://")}


def _has_moved(root: str, file: Path, home: Path) -> bool:
    if root == home.as_uri():
        return False
    is_there, is_here = (Path(_path(root)) / ARTIFACTS).exists(), (home / ARTIFACTS).exists()
    return is_here or not is_there if file.parent == home else is_here and not is_there


def _path(uri: str) -> str:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return str(local_file_uri_to_path(uri))  # type: ignore[no-untyped-call]
