"""The folders and stores of this machine, and every environment variable that glt reads.

| variable | meaning | if it is not set |
| --- | --- | --- |
| GLT_HOME | folder of segments, checkpoints, logs and reports | ``runs`` in the working directory |
| GLT_RUN_ID | id of the pipeline run that a step belongs to | the step is a run of its own |
| GLT_CODE_VERSION | version of the sources, in an image built from a known commit | hash of the source files |
| GLT_IMAGE | container image that the steps run in | ``glt:0.1.0`` for the graph, none for a model |
| GLT_LOCKS | ``s3://bucket/prefix`` for locks that hold across machines | locks hold on this machine alone |
| GLT_JOBS | manifest of a TrainingRuntime: multi-node jobs run as containers of this machine | on the cluster |
| GLT_JOB_LABELS | labels of a multi-node job on a cluster, as JSON; set by the accelerator profile | none |
| GLT_COMMAND | arguments of the `glt` command that a node of a job runs, as JSON; set by the job | |
| GLT_TASKS_AT_ONCE | how many tasks of a loop share this machine; each takes its part of the threads | 1 |
| GLT_FILE_SECONDS | time that reading one file of recordings may take, in addition to a second per MiB | 60 |
| GLT_FILE_MEMORY | MiB of memory that it may take, in addition to eight times its size | 2048 |
| GLT_GIT_TOKEN | password or token for a git repository over HTTP | the address as it is |
| GLT_GIT_HOST | hosts (or host:port), separated by commas, that GLT_GIT_TOKEN is sent to | this machine only |
| GLT_GIT_USER | the user that goes with it | ``git`` |
| GLT_SIGNING_KEY | private key that signs models when they are registered: a PEM file, or its text | not signed |
| GLT_VERIFYING_KEYS | public keys; one must have signed a model: a PEM file, a folder, or text | digests only |
| GLT_S3_ENDPOINT_URL, GLT_S3_REGION | in a pod: instead of AWS_ENDPOINT_URL, AWS_DEFAULT_REGION | those |
| GLT_S3_ACCESS_KEY_ID, GLT_S3_SECRET_ACCESS_KEY, GLT_S3_SESSION_TOKEN | in a pod: instead of AWS_... | those |
| GLT_TRACKING_URI, GLT_TRACKING_USERNAME, GLT_TRACKING_PASSWORD | in a pod: instead of MLFLOW_... | those |
| MLFLOW_TRACKING_URI | MLflow server or SQLite file | ``mlflow.db`` in GLT_HOME |
| GLT_CPU_HOUR_PRICE, GLT_GPU_HOUR_PRICE | price of an hour of a CPU and of a GPU, for the cost of runs | none |
| GLT_CURRENCY | of these prices | none |
| MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL | seconds between two samples of the machine's load | 30 |
| GLT_MLFLOW_ADDRESS | MLflow's address for browsers, in links of reports; pods: of glt-tracking | MLFLOW_TRACKING_URI |
| MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD | account at the MLflow server; read by MLflow | no account |
| MLFLOW_RUN_ID | MLflow run to record in, from Kubeflow's own MLflow plugin | found by its tags, or created |
| AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3 | address of the object store; the second is preferred | Amazon's |
| AWS_DEFAULT_REGION | its region | ``us-east-1`` |
| AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY | keys of the object store; read by boto3 | boto3's other sources |
| KUBERNETES_SERVICE_HOST | set in every pod of a cluster | this is no pod |
| OMP_NUM_THREADS | threads of a process; read by torch | one per core |
| KF_PIPELINES_ENDPOINT | address of the Kubeflow Pipelines server | in a step: that of its namespace |
| KF_PIPELINES_NAMESPACE | namespace of runs, on a server with Kubeflow profiles | in a pod: its own |
| KF_PIPELINES_TOKEN | log-in there by a bearer token | by one of the next two, or none |
| KF_PIPELINES_COOKIES | log-in there by Dex's session, ``authservice_session=...`` | |
| KF_PIPELINES_SA_TOKEN_PATH | log-in there by a service account's projected token: its file | |
| RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT | a process's place in a training; set by torchrun | one |
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from urllib.parse import unquote

HOME, RUN_ID, CODE_VERSION, IMAGE = "GLT_HOME", "GLT_RUN_ID", "GLT_CODE_VERSION", "GLT_IMAGE"
LOCKS, JOBS, JOB_LABELS = "GLT_LOCKS", "GLT_JOBS", "GLT_JOB_LABELS"
GIT_USER, GIT_TOKEN, GIT_HOST = "GLT_GIT_USER", "GLT_GIT_TOKEN", "GLT_GIT_HOST"
SIGNING_KEY, VERIFYING_KEYS = "GLT_SIGNING_KEY", "GLT_VERIFYING_KEYS"
MLFLOW_ADDRESS = "GLT_MLFLOW_ADDRESS"
SAMPLING_INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
CPU_HOUR_PRICE, GPU_HOUR_PRICE, CURRENCY = "GLT_CPU_HOUR_PRICE", "GLT_GPU_HOUR_PRICE", "GLT_CURRENCY"
TRACKING_URI, TRACKING_RUN_ID = "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"
OBJECT_STORE, OBJECT_STORE_S3, REGION = "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"
THREADS = "OMP_NUM_THREADS"
PIPELINES_ENDPOINT, PIPELINES_NAMESPACE = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_NAMESPACE"
PIPELINES_TOKEN, PIPELINES_COOKIES = "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIES"
PIPELINES_TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # the name that KFP's own client reads
CLUSTER = "KUBERNETES_SERVICE_HOST"
FILE_SECONDS, FILE_MEMORY = "GLT_FILE_SECONDS", "GLT_FILE_MEMORY"
SQLITE = "sqlite:///"
# In a step's pod Kubeflow's launcher runs in the same container. It opens its own artifact store with whatever AWS_*
# variables there are (kubeflow/pipelines, backend/src/v2/objectstore/object_store.go, 2.17.0), and its MLflow plugin
# brings MLFLOW_* variables of its own. So what is ours has names of ours there: for each group that a pod may be given,
# the name that boto3, DVC or MLflow reads (None: they read it, and it belongs to other keys). A group counts if the
# first of its variables is set.
_ACCOUNT: dict[str, str | None] = {
    "MLFLOW_TRACKING_USERNAME": "GLT_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD": "GLT_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN": None,
    "MLFLOW_TRACKING_AUTH": None,
}
_POD_NAMES: tuple[dict[str, str | None], ...] = (
    {OBJECT_STORE_S3: "GLT_S3_ENDPOINT_URL"},
    {REGION: "GLT_S3_REGION"},
    {
        "AWS_ACCESS_KEY_ID": "GLT_S3_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY": "GLT_S3_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN": "GLT_S3_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN": None,
    },
    {TRACKING_URI: "GLT_TRACKING_URI", **_ACCOUNT},  # no account of another server is sent to ours
    _ACCOUNT,
)


def pod_variable(name: str) -> str:
    """The variable that a step's pod has instead of this one, if there is one, else this."""
    if name == OBJECT_STORE:
        return pod_variable(OBJECT_STORE_S3)
    return next((group[name] or name for group in _POD_NAMES if name in group), name)


def apply_pod_names() -> None:
    """Set, for this process and its children, what boto3, DVC and MLflow read, from a pod's variables.

    A pod's variable wins over one that is there. A group is replaced whole, so keys of two sources are never mixed.
    """
    for group in _POD_NAMES:
        values = {theirs: os.environ.get(ours or "", "").strip() for theirs, ours in group.items()}
        if next(iter(values.values())):
            for theirs, value in values.items():
                os.environ.pop(theirs, None)
                if value:
                    os.environ[theirs] = value


def home() -> Path:
    """The folder in which this machine keeps what runs leave behind."""
    return Path(os.environ.get(HOME, "runs")).resolve()


def store_uri() -> str:
    """The address of the MLflow store; the path of a SQLite file is absolute."""
    uri = os.environ.get(TRACKING_URI) or sqlite_uri(home() / "mlflow.db")
    if not uri.startswith(SQLITE):
        return uri
    path, separator, options = uri.removeprefix(SQLITE).partition("?")
    return f"{sqlite_uri(Path(unquote(path)).resolve())}{separator}{options}"


def mlflow_address() -> str:
    """The address at which people open MLflow."""
    return os.environ.get(MLFLOW_ADDRESS) or store_uri()


def store_file() -> Path | None:
    """The SQLite file that is the MLflow store; None if it is a server."""
    return sqlite_file(store_uri())


def is_local() -> bool:
    """True if the MLflow store is a file on this machine."""
    return store_file() is not None


def sqlite_uri(path: Path) -> str:
    """The SQLAlchemy address of a SQLite file; `%` and `?` in its path are escaped."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for any other address."""
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])) if uri.startswith(SQLITE) else None


def run_id() -> str:
    """The id of the pipeline run, or an empty string."""
    return os.environ.get(RUN_ID, "")


def tracking_run_id() -> str:
    """The MLflow run that this process was given, or an empty string."""
    return os.environ.get(TRACKING_RUN_ID, "")


def code_version() -> str:
    """The version of the sources as the image states it, or an empty string."""
    return os.environ.get(CODE_VERSION, "")


def image() -> str:
    """The container image of this process, or an empty string."""
    return os.environ.get(IMAGE, "")


def locks() -> str:
    """The ``s3://`` address of locks that hold across machines, or an empty string."""
    return os.environ.get(LOCKS, "")


def jobs() -> str:
    """The manifest of the runtime for multi-node jobs on this machine, or an empty string."""
    return os.environ.get(JOBS, "")


def job_labels() -> str:
    """The labels of a multi-node job, as JSON, or an empty string."""
    return os.environ.get(JOB_LABELS, "")


def in_cluster() -> bool:
    """True in a pod of a cluster."""
    return bool(os.environ.get(CLUSTER))


def git_user() -> str:
    """The user of a git repository over HTTP."""
    return os.environ.get(GIT_USER) or "git"


def git_token() -> str:
    """The password or token of a git repository over HTTP, or an empty string."""
    return os.environ.get(GIT_TOKEN, "")


def signing_key() -> str:
    """The private key that signs models: a path or PEM text; an empty string if models are not signed."""
    return os.environ.get(SIGNING_KEY, "").strip()


def verifying_keys() -> str:
    """The public keys that models are verified by: a path or PEM text; an empty string if there are none."""
    return os.environ.get(VERIFYING_KEYS, "").strip()


def sampling_interval() -> float:
    """Seconds between two samples of the machine's load while a step trains."""
    return _positive(SAMPLING_INTERVAL) or 30


def cpu_hour_price() -> float:
    """The price of an hour of a CPU; 0 if it is not set."""
    return _positive(CPU_HOUR_PRICE)


def gpu_hour_price() -> float:
    """The price of an hour of a GPU; 0 if it is not set."""
    return _positive(GPU_HOUR_PRICE)


def currency() -> str:
    """The currency of these prices, or an empty string."""
    return os.environ.get(CURRENCY, "").strip()


def file_seconds() -> float:
    """Seconds that reading one file of recordings may take, in addition to one per MiB."""
    return float(_positive(FILE_SECONDS) or 60)


def file_memory() -> int:
    """Bytes of memory that reading one file of recordings may take, in addition to eight times its size."""
    return int((_positive(FILE_MEMORY) or 2048) * (1 << 20))


def _positive(name: str) -> float:
    """The variable as a number above 0; 0 if it is unset or invalid."""
    try:
        number = float(os.environ.get(name, ""))
    except ValueError:
        return 0
    return number if 0 < number < math.inf else 0


def git_hosts() -> frozenset[str]:
    """The hosts, in lower case, that the token is sent to."""
    return frozenset(host.strip().lower() for host in os.environ.get(GIT_HOST, "").split(",") if host.strip())


def object_store() -> str:
    """The address of the object store, or an empty string for Amazon's."""
    return os.environ.get(OBJECT_STORE_S3) or os.environ.get(OBJECT_STORE, "")


def region() -> str:
    """The region of the object store."""
    return os.environ.get(REGION) or "us-east-1"


def threads() -> str:
    """The number of threads of a process as the user set it, or an empty string."""
    return os.environ.get(THREADS, "")


def pipelines_endpoint() -> str:
    """The address of the Kubeflow Pipelines server, or an empty string."""
    return os.environ.get(PIPELINES_ENDPOINT, "").strip()


def pipelines_namespace() -> str:
    """The namespace of runs as the user set it, or an empty string."""
    return os.environ.get(PIPELINES_NAMESPACE, "").strip()


def pipelines_logins() -> dict[str, str]:
    """The ways to log in to the Kubeflow Pipelines server that are set, by the name of their variable."""
    names = (PIPELINES_TOKEN, PIPELINES_COOKIES, PIPELINES_TOKEN_FILE)
    return {name: value for name in names if (value := os.environ.get(name, "").strip())}


def in_pod() -> bool:
    """True in a pod of Kubernetes."""
    return "KUBERNETES_SERVICE_HOST" in os.environ
