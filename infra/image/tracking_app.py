"""The app `glt` of `mlflow server --app-name=glt`: MLflow's own with log-in, and what MLflow has no setting for.

Artifacts stay in the store of `--artifacts-destination`: no account makes an experiment elsewhere, and the server opens
no other place, whatever its tables say. Error answers name neither paths nor tracebacks. There is no assistant.
"""

import os
from typing import Any

from answers import Answers, note  # type: ignore[import-not-found]  # glt/lifecycle/answers.py, beside this file
from flask import Response, got_request_exception, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.service_pb2 import CreateExperiment
from mlflow.server import app as flask_app
from mlflow.server import auth, handlers
from mlflow.server.assistant.api import assistant_router
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact import artifact_repository_registry as repositories

MLFLOW: Any = handlers  # annotated in parts only
# These name a place by way of another, which is opened, and checked, in its turn.
INDIRECT = {"runs", "models", "mlflow-artifacts"}
CREATE_EXPERIMENT = "_create_experiment"  # MLflow's name of that endpoint, under all its addresses
# The store's answer, in MLflow's, if an artifact is not there.
MISSING = "(404) when calling the HeadObject operation"


@MLFLOW.catch_mlflow_exception  # type: ignore[untyped-decorator]
def refuse_locations() -> Response | None:
    """Refuse to create an experiment whose artifacts the server would not place itself."""
    if request.endpoint == CREATE_EXPERIMENT and MLFLOW._get_request_message(CreateExperiment()).artifact_location:
        raise MlflowException.invalid_parameter_value(
            "artifact_location: this server chooses where the artifacts of an experiment are; leave the field out"
        )
    return None


def keep_to(destination: str) -> None:
    """Let this process open artifacts below a URI and nowhere else."""
    root = destination.rstrip("/")

    def guarded(repository: Any) -> Any:
        def opened(artifact_uri: str, *arguments: Any, **named: Any) -> Any:
            if ".." in artifact_uri.split("/") or not f"{artifact_uri}/".startswith(f"{root}/"):
                raise MlflowException("These artifacts are not in the store of this server.", PERMISSION_DENIED)
            return repository(artifact_uri, *arguments, **named)

        return opened

    registry: Any = repositories._artifact_repository_registry
    for scheme, repository in repositories.get_registered_artifact_repositories().copy().items():
        if scheme not in INDIRECT:
            registry.register(scheme, guarded(repository))


def create_app() -> Answers:
    """The application that uvicorn serves; raises if this is another MLflow than the one it was written for."""
    if CREATE_EXPERIMENT not in flask_app.view_functions:
        raise RuntimeError(f"this MLflow has no endpoint {CREATE_EXPERIMENT}")
    keep_to(os.environ[ARTIFACTS_DESTINATION_ENV_VAR])
    # The assistant runs commands for any account whose request comes from loopback, as through a port-forward.
    assistant_router.routes.clear()
    app: Any = auth.create_app(flask_app)
    flask_app.before_request(refuse_locations)  # after the log-in's
    got_request_exception.connect(lambda sender, exception: note(exception), flask_app, weak=False)
    return Answers(app, missing=MISSING)
