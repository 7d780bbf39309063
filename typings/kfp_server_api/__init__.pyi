"""Types of what glt uses of the client of the Kubeflow Pipelines server, which ships none."""

class ApiException(Exception):
    status: int | None
    reason: str | None
    body: str | None

class V2beta1Experiment:
    experiment_id: str

class V2beta1Run:
    run_id: str

class V2beta1CronSchedule:
    cron: str

class V2beta1Trigger:
    cron_schedule: V2beta1CronSchedule | None

class V2beta1RuntimeConfig:
    parameters: dict[str, object] | None

class V2beta1RecurringRun:
    recurring_run_id: str
    display_name: str
    description: str | None
    trigger: V2beta1Trigger | None
    runtime_config: V2beta1RuntimeConfig | None

class V2beta1ListRecurringRunsResponse:
    recurring_runs: list[V2beta1RecurringRun] | None
    next_page_token: str | None
