"""Types of what glt uses of the client of the Kubeflow Pipelines server, which ships none."""

from collections.abc import Callable, Mapping
from typing import Any

class ApiException(Exception):
    status: int | None
    reason: str | None
    body: str | None

class Configuration:
    host: str
    retries: object
    api_key: dict[str, str]
    api_key_prefix: dict[str, str]
    refresh_api_key_hook: Callable[[Configuration], object] | None

class ApiClient:
    configuration: Configuration
    rest_client: Any
    def __init__(self, configuration: Configuration | None = ..., *, cookie: str | None = ...) -> None: ...

class HealthzServiceApi:
    def __init__(self, api_client: ApiClient) -> None: ...
    def healthz_service_get_healthz(self, *, _preload_content: bool = ...) -> Any: ...

class V2beta1Experiment:
    experiment_id: str
    display_name: str
    def __init__(self, *, display_name: str, namespace: str | None = ...) -> None: ...

class V2beta1ListExperimentsResponse:
    experiments: list[V2beta1Experiment] | None

class ExperimentServiceApi:
    def __init__(self, api_client: ApiClient) -> None: ...
    def experiment_service_list_experiments(
        self, *, page_size: int, filter: str, namespace: str | None
    ) -> V2beta1ListExperimentsResponse: ...
    def experiment_service_create_experiment(self, experiment: V2beta1Experiment) -> V2beta1Experiment: ...

class V2beta1Pipeline:
    pipeline_id: str
    display_name: str
    def __init__(
        self, *, name: str, display_name: str, description: str | None = ..., namespace: str | None = ...
    ) -> None: ...

class V2beta1ListPipelinesResponse:
    pipelines: list[V2beta1Pipeline] | None

class V2beta1PipelineVersion:
    pipeline_id: str
    pipeline_version_id: str
    display_name: str

class V2beta1ListPipelineVersionsResponse:
    pipeline_versions: list[V2beta1PipelineVersion] | None

class V2beta1PipelineVersionReference:
    pipeline_id: str
    pipeline_version_id: str
    def __init__(self, *, pipeline_id: str, pipeline_version_id: str) -> None: ...

class PipelineServiceApi:
    def __init__(self, api_client: ApiClient) -> None: ...
    def pipeline_service_create_pipeline(self, pipeline: V2beta1Pipeline) -> V2beta1Pipeline: ...
    def pipeline_service_list_pipelines(
        self, *, page_size: int, filter: str, namespace: str | None
    ) -> V2beta1ListPipelinesResponse: ...
    def pipeline_service_list_pipeline_versions(
        self, pipeline_id: str, *, page_size: int, filter: str
    ) -> V2beta1ListPipelineVersionsResponse: ...

class PipelineUploadServiceApi:
    def __init__(self, api_client: ApiClient) -> None: ...
    def upload_pipeline_version(
        self, uploadfile: str, *, name: str, pipelineid: str, description: str
    ) -> V2beta1PipelineVersion: ...

class V2beta1RuntimeStatus:
    state: str | None

class V2beta1RuntimeConfig:
    parameters: dict[str, object] | None
    def __init__(self, *, parameters: Mapping[str, object]) -> None: ...

class V2beta1Run:
    run_id: str
    state: str | None
    state_history: list[V2beta1RuntimeStatus] | None
    plugins_input: Mapping[str, object] | None
    def __init__(
        self,
        *,
        experiment_id: str,
        display_name: str,
        description: str,
        pipeline_version_reference: V2beta1PipelineVersionReference,
        runtime_config: V2beta1RuntimeConfig,
        service_account: str | None,
        plugins_input: Mapping[str, object] | None,
    ) -> None: ...

class RunServiceApi:
    def __init__(self, api_client: ApiClient) -> None: ...
    def run_service_create_run(self, run: V2beta1Run) -> V2beta1Run: ...
    def run_service_get_run(self, run_id: str) -> V2beta1Run: ...

class RecurringRunMode:
    ENABLE: str
    DISABLE: str

class V2beta1CronSchedule:
    cron: str
    def __init__(self, *, cron: str) -> None: ...

class V2beta1Trigger:
    cron_schedule: V2beta1CronSchedule | None
    def __init__(self, *, cron_schedule: V2beta1CronSchedule) -> None: ...

class V2beta1RecurringRun:
    recurring_run_id: str
    display_name: str
    description: str | None
    trigger: V2beta1Trigger | None
    runtime_config: V2beta1RuntimeConfig | None
    pipeline_version_reference: V2beta1PipelineVersionReference | None
    plugins_input: Mapping[str, object] | None
    mode: str | None
    def __init__(
        self,
        *,
        experiment_id: str,
        display_name: str,
        description: str,
        trigger: V2beta1Trigger,
        max_concurrency: str,
        no_catchup: bool,
        mode: str,
        pipeline_version_reference: V2beta1PipelineVersionReference | None,
        runtime_config: V2beta1RuntimeConfig,
        service_account: str | None,
        plugins_input: Mapping[str, object] | None,
    ) -> None: ...

class V2beta1ListRecurringRunsResponse:
    recurring_runs: list[V2beta1RecurringRun] | None
    next_page_token: str | None

class RecurringRunServiceApi:
    def __init__(self, api_client: ApiClient) -> None: ...
    def recurring_run_service_list_recurring_runs(
        self, *, page_token: str, page_size: int, experiment_id: str
    ) -> V2beta1ListRecurringRunsResponse: ...
    def recurring_run_service_create_recurring_run(self, recurring_run: V2beta1RecurringRun) -> V2beta1RecurringRun: ...
    def recurring_run_service_delete_recurring_run(self, recurring_run_id: str) -> object: ...
