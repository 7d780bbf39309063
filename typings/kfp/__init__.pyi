"""Types of what glt uses of the Kubeflow Pipelines SDK, which ships none; tests/test_typings.py holds them to it."""

from collections.abc import Mapping

from kfp_server_api import (
    V2beta1Experiment,
    V2beta1ListRecurringRunsResponse,
    V2beta1RecurringRun,
    V2beta1Run,
)

class Client:
    def __init__(self, host: str | None = ..., *, namespace: str = ..., existing_token: str | None = ...) -> None: ...
    def create_experiment(self, name: str) -> V2beta1Experiment: ...
    def run_pipeline(
        self, experiment_id: str, job_name: str, pipeline_package_path: str, params: Mapping[str, object] | None = ...
    ) -> V2beta1Run: ...
    def list_recurring_runs(
        self, page_token: str = ..., page_size: int = ..., *, experiment_id: str | None = ...
    ) -> V2beta1ListRecurringRunsResponse: ...
    def create_recurring_run(
        self,
        experiment_id: str,
        job_name: str,
        description: str | None = ...,
        *,
        cron_expression: str | None = ...,
        max_concurrency: int | None = ...,
        no_catchup: bool | None = ...,
        params: Mapping[str, object] | None = ...,
        pipeline_package_path: str | None = ...,
        enabled: bool = ...,
    ) -> V2beta1RecurringRun: ...
    def delete_recurring_run(self, recurring_run_id: str) -> dict[str, object]: ...
