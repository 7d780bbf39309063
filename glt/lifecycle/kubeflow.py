"""The Kubeflow Pipelines server: its address, the log-in, its version, and errors of its client in one line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle.connection import shown
from glt.text import clean

if TYPE_CHECKING:
    from kfp_server_api import ApiClient, ApiException, Configuration

# A loop inside an exit handler, as our graphs have it, fails on 2.14.3 (kubeflow/pipelines#12390, open) and is reported
# to run on 2.16.0 (#13321); that release is also the first to read `runAsNonRoot` of a step (#12832).
LEAST = (2, 16, 0)
IN_CLUSTER = "http://ml-pipeline:8888"  # the server's Service, by the name it has for pods of its own namespace
PROJECTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")  # where Kubeflow mounts it (kfp.client)
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PATIENCE = 60.0  # seconds that one answer may take
_LOG = logging.getLogger(__name__)
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?!\d)", re.ASCII)


@dataclass(frozen=True)
class ServerInfo:
    """A server's description of itself.

    Attributes:
        tag: its release as it says it, such as ``2.17.0``; "unknown" for a build of one's own.
        version: the numbers of the release; None if the tag has none.
        multi_user: whether its users have Kubeflow profiles, each with a namespace.
    """

    tag: str
    version: tuple[int, int, int] | None
    multi_user: bool


def address() -> str:
    """The server's address: KF_PIPELINES_ENDPOINT, or in a step's pod that of its namespace; else an empty string."""
    if endpoint := settings.pipelines_endpoint():
        return (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")
    return IN_CLUSTER if settings.run_id() and settings.in_pod() else ""


def namespace() -> str:
    """The namespace of runs: KF_PIPELINES_NAMESPACE, or that of this pod; else an empty string."""
    if name := settings.pipelines_namespace():
        return name
    try:
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def connect(patience: float = PATIENCE) -> ApiClient:
    """A client of the server, logged in by the one variable that is set; nothing is sent yet.

    Args:
        patience: seconds that an answer may take.

    Raises:
        GltError: no address, or a log-in that cannot work.
    """
    import urllib3
    from kfp_server_api import ApiClient, Configuration

    host = address()
    if not host:
        raise GltError(f"{settings.PIPELINES_ENDPOINT}: set it to the address of the Kubeflow Pipelines server")
    configuration = Configuration()
    configuration.host = host
    configuration.retries = urllib3.Retry(2, connect=0, read=0, other=0)

    class Client(ApiClient):
        def request(self, method: str, url: str, **more: Any) -> Any:
            more["_request_timeout"] = more.get("_request_timeout") or (min(patience, 10.0), patience)
            answer = super().request(method, url, **more)  # which waits for ever if it is given no time
            if "html" in (answer.getheader("content-type") or ""):  # it would be read as an empty answer
                raise GltError(f"Kubeflow Pipelines at {shown(host)}: a web page, perhaps to log in; {_LOG_IN}")
            return answer

    return Client(configuration, cookie=_log_in(configuration))


def describe(client: ApiClient) -> ServerInfo:
    """Ask the server, or the user interface in front of it, for its version.

    Raises:
        GltError: it does not answer, or is no Kubeflow Pipelines.
    """
    from kfp_server_api import HealthzServiceApi

    host = client.configuration.host
    with server_errors(host):
        answer = HealthzServiceApi(client).healthz_service_get_healthz(_preload_content=False)
        try:
            fields = json.loads(answer.data)
        except ValueError:
            fields = None
    if not isinstance(fields, dict):
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)}: the answer does not come from Kubeflow Pipelines; {_LOG_IN}"
        )
    if fields.get("apiServerReady") is False:
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)}: its user interface answers, but not its API server; start the "
            "Deployment ml-pipeline"
        )
    tag = fields.get("tag_name") or fields.get("apiServerTagName") or "unknown"
    found = _VERSION.match(str(tag))
    version = (int(found[1]), int(found[2]), int(found[3])) if found else None
    multi_user = fields.get("multi_user", fields.get("apiServerMultiUser", False))
    return ServerInfo(clean(str(tag))[:60], version, multi_user is True)


def require(host: str, found: ServerInfo) -> None:
    """Refuse a server that is too old for the graphs; one that does not say its release gives a warning.

    Raises:
        GltError: it is too old.
    """
    least = ".".join(map(str, LEAST))
    if found.version is None:
        _LOG.warning(
            "Kubeflow Pipelines at %s does not say its release (%s); the graphs need %s or newer",
            *(shown(host), found.tag, least),
        )
    elif found.version < LEAST:
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)} is {found.tag}, but the graphs need {least} or newer: older servers "
            "fail on a loop inside an exit handler (kubeflow/pipelines#12390); upgrade the server"
        )


@contextmanager
def server_errors(host: str) -> Iterator[None]:
    """Turn errors of the server's client within the block into a GltError of one line."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except GltError:
        raise
    except ApiException as error:
        raise GltError(f"Kubeflow Pipelines at {shown(host)}: {_reason(error)}; {_remedy(error)}") from error
    except (HTTPError, OSError) as error:
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)} does not answer: {first_line(error)}; "
            f"start it or its port-forward, or correct {settings.PIPELINES_ENDPOINT}"
        ) from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # an answer that its client cannot read
        if isinstance(error.__context__, ApiException):
            why = _reason(error.__context__)
        else:
            why = f"the answer does not come from Kubeflow Pipelines ({first_line(error)})"
        raise GltError(f"Kubeflow Pipelines at {shown(host)}: {why}; {_LOG_IN}") from error


def is_missing(error: ApiException) -> bool:
    """True if the server itself says that it does not have what was asked for, and not a proxy in front of it."""
    if error.status != 404:
        return False
    try:
        return bool(json.loads(error.body or "").get("code") == _NOT_FOUND)
    except (ValueError, AttributeError):
        return False


_NOT_FOUND = 5  # of gRPC, in the answers of KFP's API
_LOG_IN = (
    f"correct {settings.PIPELINES_ENDPOINT}, or log in by {settings.PIPELINES_TOKEN}, {settings.PIPELINES_COOKIES} "
    f"or {settings.PIPELINES_TOKEN_FILE}"
)


def _remedy(error: ApiException) -> str:
    if error.status in (401, 403):
        return f"log in by {_LOG_IN.partition('log in by ')[2]}, and check {settings.PIPELINES_NAMESPACE}"
    if error.status == 404:
        return f"check {settings.PIPELINES_ENDPOINT}: glt needs the API v2beta1"
    if (error.status or 0) >= 500:
        return "try again: the log of the server, ml-pipeline, says more"
    return f"check {settings.PIPELINES_ENDPOINT} and {settings.PIPELINES_NAMESPACE}"


def _reason(error: ApiException) -> str:
    """Status and message of an answer, in one bounded line."""
    message = ""
    try:
        fields = json.loads(error.body or "")
        message = str(fields.get("message") or fields.get("error_message") or fields.get("error") or "")
    except (ValueError, AttributeError):
        pass
    reason = clean(" ".join((message or str(error.reason or "")).split()))[:300]
    return f"{error.status} {reason}".strip() if error.status else reason


def _log_in(configuration: Configuration) -> str | None:
    """Set up the log-in; returns the cookies to send, if it is by them."""
    logins = settings.pipelines_logins()
    if len(logins) > 1:
        raise GltError(f"{' and '.join(logins)}: each is another way to log in; set only one of them")
    for name, value in logins.items():
        if not value.isascii() or not value.isprintable():
            raise GltError(f"{name}: it holds a line break or another character that cannot be sent; copy it anew")
    if cookies := logins.get(settings.PIPELINES_COOKIES):
        if "=" not in cookies:
            raise GltError(
                f"{settings.PIPELINES_COOKIES}: not a cookie; give name=value, such as authservice_session=..."
            )
        return cookies
    file = logins.get(settings.PIPELINES_TOKEN_FILE)
    if file is None and not logins and settings.in_pod() and PROJECTED_TOKEN.exists():
        file = str(PROJECTED_TOKEN)
    if file is not None:
        _read_token(file)
        # Read for every request: the kubelet replaces the file before the token expires.
        configuration.refresh_api_key_hook = lambda one: one.api_key.update(authorization=_read_token(file))
        configuration.api_key["authorization"] = ""
    elif token := logins.get(settings.PIPELINES_TOKEN):
        configuration.api_key["authorization"] = token
    configuration.api_key_prefix["authorization"] = "Bearer"
    return None


def _read_token(file: str) -> str:
    try:
        token = Path(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise GltError(f"{settings.PIPELINES_TOKEN_FILE}: {first_line(error)}; name the file of the token") from error
    if not token or not token.isprintable():
        raise GltError(f"{settings.PIPELINES_TOKEN_FILE}: {file} holds no token; name the file of the token")
    return token
