"""Client of a Kubeflow Pipelines server: experiments, pipelines and their versions, runs and recurring runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from kfp_server_api import (
    ApiException,
    ExperimentServiceApi,
    PipelineServiceApi,
    PipelineUploadServiceApi,
    RecurringRunServiceApi,
    RunServiceApi,
    V2beta1Experiment,
    V2beta1Pipeline,
    V2beta1PipelineVersion,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1Run,
)
from packaging.version import Version

from glt import settings
from glt.errors import GltError
from glt.lifecycle import kubeflow
from glt.lifecycle.connection import shown

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

PLUGINS = Version("2.17.0")  # the first to take `plugins_input`; earlier ones refuse fields that they do not know
_PAGE = 100  # entries of a list


class Server:
    """A Kubeflow Pipelines server that was asked for its version and is new enough.

    Attributes:
        address: its address, without a password.
        takes_plugins: whether runs may have inputs of plugins; tried where the server's release is unknown.
    """

    def __init__(self) -> None:
        """Connect as the environment says (`glt.lifecycle.kubeflow`).

        Raises:
            GltError: no address, no answer, or too old a server; or one with Kubeflow profiles, and no namespace.
        """
        client = kubeflow.connect()
        found = kubeflow.describe(client)
        self.address = shown(client.configuration.host)
        kubeflow.require(self.address, found)
        self.takes_plugins = found.version is None or found.version >= PLUGINS
        self._namespace = _namespace(self.address) if found.multi_user else None
        self._experiments, self._pipelines = ExperimentServiceApi(client), PipelineServiceApi(client)
        self._uploads, self._runs = PipelineUploadServiceApi(client), RunServiceApi(client)
        self._recurring = RecurringRunServiceApi(client)

    def find_experiment(self, name: str) -> str:
        """The id of an experiment; empty if it does not exist."""
        with kubeflow.server_errors(self.address):
            page = self._experiments.experiment_service_list_experiments(
                page_size=_PAGE, filter=_named(name), namespace=self._namespace
            )
            return next((_id(one.experiment_id) for one in page.experiments or () if one.display_name == name), "")

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is created if it does not exist."""

        def create() -> str:
            experiment = V2beta1Experiment(display_name=name, namespace=self._namespace)
            return _id(self._experiments.experiment_service_create_experiment(experiment).experiment_id)

        return self._find_or_create(lambda: self.find_experiment(name), create)

    def find_version(self, pipeline: str, name: str) -> V2beta1PipelineVersionReference | None:
        """A registered version of a pipeline, by the names of both."""
        with kubeflow.server_errors(self.address):
            pipeline_id = self._find_pipeline(pipeline)
            version_id = self._find_version(pipeline_id, name) if pipeline_id else ""
        return _reference(pipeline_id, version_id) if version_id else None

    def register(
        self, pipeline: str, about: str, version: str, about_version: str, package: Path
    ) -> V2beta1PipelineVersionReference:
        """A version of a pipeline, which is uploaded if there is none of that name.

        Args:
            pipeline: name of the pipeline, which is created if it does not exist.
            about: its description then.
            version: name of the version; a version of that name has the same content.
            about_version: its description.
            package: the compiled graph.
        """

        def create() -> str:
            created = V2beta1Pipeline(
                name=pipeline, display_name=pipeline, description=about, namespace=self._namespace
            )
            return _id(self._pipelines.pipeline_service_create_pipeline(created).pipeline_id)

        def upload() -> str:
            uploaded = self._uploads.upload_pipeline_version(
                str(package), name=version, pipelineid=pipeline_id, description=about_version
            )
            version_id = _id(uploaded.pipeline_version_id)
            _LOG.info("registered %s, version %s", pipeline, version)
            return version_id

        pipeline_id = self._find_or_create(lambda: self._find_pipeline(pipeline), create)
        return _reference(pipeline_id, self._find_or_create(lambda: self._find_version(pipeline_id, version), upload))

    def start(self, run: V2beta1Run) -> str:
        """Start a run; returns its id."""
        with kubeflow.server_errors(self.address):
            return _id(self._create(run, self._runs.run_service_create_run).run_id)

    def recurring_runs(self, experiment: str) -> Iterator[V2beta1RecurringRun]:
        """All recurring runs of an experiment."""
        token = ""
        while True:
            with kubeflow.server_errors(self.address):
                page = self._recurring.recurring_run_service_list_recurring_runs(
                    page_token=token, page_size=_PAGE, experiment_id=experiment
                )
                runs, token = page.recurring_runs or (), page.next_page_token or ""
            yield from runs
            if not token:
                return

    def create_recurring_run(self, run: V2beta1RecurringRun) -> None:
        """Create a recurring run."""
        self._create(run, self._recurring.recurring_run_service_create_recurring_run)

    def delete_recurring_run(self, recurring_run: str) -> None:
        """Delete a recurring run by its id; one that is gone already is no error."""
        with kubeflow.server_errors(self.address):
            try:
                self._recurring.recurring_run_service_delete_recurring_run(recurring_run)
            except ApiException as error:
                if not kubeflow.is_missing(error):
                    raise

    def _find_pipeline(self, name: str) -> str:
        page = self._pipelines.pipeline_service_list_pipelines(
            page_size=_PAGE, filter=_named(name), namespace=self._namespace
        )
        return next((_id(one.pipeline_id) for one in page.pipelines or () if one.display_name == name), "")

    def _find_version(self, pipeline_id: str, name: str) -> str:
        page = self._pipelines.pipeline_service_list_pipeline_versions(
            pipeline_id, page_size=_PAGE, filter=_named(name)
        )
        versions: list[V2beta1PipelineVersion] = page.pipeline_versions or []
        return next((_id(one.pipeline_version_id) for one in versions if one.display_name == name), "")

    def _find_or_create(self, find: Callable[[], str], create: Callable[[], str]) -> str:
        """The id of a thing that others may create at the same time: then theirs is taken."""
        with kubeflow.server_errors(self.address):
            if found := find():
                return found
            try:
                return create()
            except ApiException:
                if found := find():
                    return found
                raise

    def _create(self, body: T, create: Callable[[T], T]) -> T:
        """Send a run or a recurring run, without the inputs of plugins to a server that does not know them."""
        if not self.takes_plugins:
            body.plugins_input = None  # type: ignore[attr-defined]  # both kinds of run have it
        with kubeflow.server_errors(self.address):
            try:
                return create(body)
            except ApiException as error:
                if error.status != 400 or "plugins_input" not in (error.body or "") or not self.takes_plugins:
                    raise
                self.takes_plugins = False
                return self._create(body, create)


def plugins_input(experiment: str) -> Mapping[str, object]:
    """Settings for Kubeflow's MLflow plugin: the experiment of our runs.

    Without it the plugin records every run in an experiment of its own (backend/src/apiserver/plugins/mlflow/config.go
    of KFP 2.17.0). An empty name is a graph that records nothing in MLflow.
    """
    return {"mlflow": {"experiment_name": experiment} if experiment else {"disabled": True}}


def _id(value: str | None) -> str:
    """The id in an answer, which has one if it is Kubeflow's."""
    if not value:
        raise ValueError("it has no id")
    return value


def _reference(pipeline_id: str, version_id: str) -> V2beta1PipelineVersionReference:
    return V2beta1PipelineVersionReference(pipeline_id=pipeline_id, pipeline_version_id=version_id)


def _named(name: str) -> str:
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _namespace(address: str) -> str:
    if name := kubeflow.namespace():
        return name
    raise GltError(
        f"Kubeflow Pipelines at {address} has Kubeflow profiles; set {settings.PIPELINES_NAMESPACE} to the namespace "
        "of yours"
    )
