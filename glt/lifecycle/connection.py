"""The connection to MLflow: its server, or the store of this machine."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from glt import settings
from glt.errors import GltError, first_line, machine_failure
from glt.lifecycle import liveness, local_store, outbox

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # else a model gets the uv.lock of the working directory
}
_NOT_IN_QUOTES = re.compile(r"['\"\\\x00-\x1f\x7f]")  # MLflow's filter strings have no escapes


def connect() -> MlflowClient:
    """Connect to MLflow, check that it responds, and deliver messages queued by earlier runs.

    Raises:
        GltError: the store does not respond within ten seconds, or is not usable.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints tracebacks of what it raises
    uri, file = settings.store_uri(), settings.store_file()
    try:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            local_store.prepare(file)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        with outbox.without_retries():
            client.search_experiments(max_results=1)
    except GltError:
        raise
    except Exception as error:  # sqlalchemy, requests and MLflow each raise their own
        if file is not None and (failure := machine_failure(error)):
            raise GltError(f"MLflow's store: {failure}") from error
        why = first_line(error)
        remedy = "start the server, correct MLFLOW_TRACKING_URI, or unset it to keep runs on this machine"
        if file is not None:
            remedy = f"check its folder, or set {settings.HOME} to another one"
        elif "401" in why:
            remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to one of its accounts"
        raise GltError(f"MLflow at {shown(uri)} does not answer ({why}); {remedy}") from error
    outbox.replay(client, uri, settings.home() / "spool")
    liveness.close_dead(client)
    return client


def condition(field: str, value: str) -> str:
    """A condition for an MLflow filter string, met by every record whose `field` equals `value`.

    MLflow's filter strings have no escapes. A value with quotes, backslashes or control characters is matched by a
    pattern in which any character takes their place: the caller must compare the results with the value.
    """
    if _NOT_IN_QUOTES.search(value):
        return f"{field} LIKE '{_NOT_IN_QUOTES.sub('_', value)}'"
    return f"{field} = '{value}'"


def shown(uri: str) -> str:
    """An address without the password it may hold."""
    scheme, _, rest = uri.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else uri


def wrap_mlflow_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Turn MLflow's exceptions into a GltError."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        from mlflow.exceptions import MlflowException

        try:
            return function(*args, **kwargs)
        except MlflowException as error:
            if failure := machine_failure(error):
                raise GltError(f"MLflow's store: {failure}") from error
            remedy = "check the server and your account there, then run the same again"
            raise GltError(f"MLflow refused a request ({first_line(error)}); {remedy}") from error

    return wrapped
