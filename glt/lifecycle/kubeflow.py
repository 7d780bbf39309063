"""The Kubeflow Pipelines server: its address, the log-in, its version, and errors of its client in one line."""

from __future__ import annotations

import functools
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle.connection import shown
from glt.text import clean

if TYPE_CHECKING:
    from kfp_server_api import ApiClient, ApiException, Configuration
    from urllib3 import BaseHTTPResponse

# A loop inside an exit handler, as our graphs have it, fails on 2.14.3 (kubeflow/pipelines#12390, open) and is reported
# to run on 2.16.0 (#13321); that release is also the first to read `runAsNonRoot` of a step (#12832).
LEAST = Version("2.16.0")
IN_CLUSTER = "http://ml-pipeline:8888"  # the server's Service, by the name it has for pods of its own namespace
PROJECTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")  # where Kubeflow mounts it (kfp.client)
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PATIENCE = 60.0  # seconds that one answer may take
LONGEST = 64 << 20  # bytes of an answer; a list of a hundred recurring runs has less
_LOG = logging.getLogger(__name__)
# KFP's tags of pre-releases are like 2.16.0-rc.1; what follows in another tag, such as a commit, says nothing.
_VERSION = re.compile(
    r"(?<![\w.])v?(\d{1,4}(\.\d{1,4})+(?!\d)([-.]?(alpha|beta|rc|dev)[-.]?\d{0,4})?)", re.ASCII | re.IGNORECASE
)
_PAGE = re.compile(r"[#?\s]|/_/")  # in an address that was copied from the browser
_SCHEME = re.compile(r"bearer\s+", re.IGNORECASE)  # before a token


@dataclass(frozen=True)
class ServerInfo:
    """A server's description of itself.

    Attributes:
        tag: its release as it says it, such as ``2.17.0``; "unknown" for a build of one's own.
        version: that of the release, before which its pre-releases come; None if the tag has none.
        multi_user: whether its users have Kubeflow profiles, each with a namespace.
    """

    tag: str
    version: Version | None
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
        patience: seconds that an answer may take, with its redirects and however slowly it comes.

    Raises:
        GltError: no address, that of a page, or a log-in that cannot work.
    """
    import urllib3
    from kfp_server_api import ApiClient, Configuration

    host = address()
    if not host:
        raise GltError(f"{settings.PIPELINES_ENDPOINT}: set it to the address of the Kubeflow Pipelines server")
    if _PAGE.search(host):
        raise GltError(
            f"{settings.PIPELINES_ENDPOINT}: it is the address of a page; give that of the server alone, as "
            "https://kubeflow.example.org/pipeline, without # and ?, and without /_/ before pipeline"
        )
    configuration = Configuration()
    configuration.host = host
    # Of errors none is tried again, nor after the pause that a server asks for: how long we wait is our choice.
    configuration.retries = urllib3.Retry(2, connect=0, read=0, other=0, status=0, respect_retry_after_header=False)
    client = ApiClient(configuration, cookie=_log_in(configuration))
    pool = client.rest_client.pool_manager
    pool.request = functools.partial(_ask, pool.request, host, patience)
    return client


def _ask(
    request: Callable[..., BaseHTTPResponse], host: str, patience: float, method: str, url: str, **more: Any
) -> BaseHTTPResponse:
    """The whole answer to a request, within its time and size.

    Raises:
        GltError: the answer is a web page, or too long.
        TimeoutError: it is not there in time.
    """
    from pebble import concurrent
    from urllib3 import HTTPResponse, Timeout

    def read() -> tuple[BaseHTTPResponse, bytes]:
        answer = request(method, url, **more)
        return answer, answer.read(LONGEST + 1)

    more |= {"preload_content": False, "timeout": Timeout(connect=min(patience, 10.0), read=patience)}
    try:  # in a thread, as the limits of urllib3 are for each read: a server could send a byte now and then for ever
        answer, content = concurrent.thread(read)().result(patience)
    except TimeoutError as error:
        raise TimeoutError(f"no whole answer within {patience:g} seconds") from error
    if len(content) > LONGEST:
        raise GltError(f"Kubeflow Pipelines at {shown(host)}: an answer of more than {LONGEST >> 20} MiB; {_LOG_IN}")
    kind = answer.headers.get("content-type", "")
    if answer.status < 300 and "html" in kind:  # it would be read as an empty answer
        raise GltError(f"Kubeflow Pipelines at {shown(host)}: a web page, perhaps to log in; {_LOG_IN}")
    return HTTPResponse(io.BytesIO(content), {"content-type": kind}, answer.status, reason=answer.reason)


def describe(client: ApiClient) -> ServerInfo:
    """Ask the server, or the user interface in front of it, for its version.

    Raises:
        GltError: it does not answer, or is no Kubeflow Pipelines.
    """
    from kfp_server_api import HealthzServiceApi

    host = client.configuration.host
    with server_errors(host):
        answer = HealthzServiceApi(client).healthz_service_get_healthz(_preload_content=False)
        fields = _fields(answer.data)
    if fields is None:
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)}: the answer does not come from Kubeflow Pipelines; {_LOG_IN}"
        )
    if fields.get("apiServerReady") is False:
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)}: its user interface answers, but not its API server; start the "
            "Deployment ml-pipeline"
        )
    tag = fields.get("tag_name") or fields.get("apiServerTagName") or "unknown"
    found = _VERSION.search(str(tag))
    version = Version(found[1]) if found else None
    multi_user = fields.get("multi_user", fields.get("apiServerMultiUser", False))
    return ServerInfo(clean(str(tag))[:60], version, multi_user is True)


def require(host: str, found: ServerInfo) -> None:
    """Refuse a server that is too old for the graphs; one that does not say its release gives a warning.

    Raises:
        GltError: it is too old.
    """
    if found.version is None:
        _LOG.warning(
            "Kubeflow Pipelines at %s does not say its release (%s); the graphs need %s or newer",
            *(shown(host), found.tag, LEAST),
        )
    elif found.version < LEAST:
        raise GltError(
            f"Kubeflow Pipelines at {shown(host)} is {found.tag}, but the graphs need {LEAST} or newer: older servers "
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
    except _UNREADABLE as error:
        if isinstance(error.__context__, ApiException):
            why = _reason(error.__context__)
        else:
            why = f"the answer does not come from Kubeflow Pipelines ({first_line(error)})"
        raise GltError(f"Kubeflow Pipelines at {shown(host)}: {why}; {_LOG_IN}") from error


def is_missing(error: ApiException) -> bool:
    """True if the server itself says that it does not have what was asked for, and not a proxy in front of it."""
    return error.status == 404 and (_fields(error.body) or {}).get("code") == _NOT_FOUND


_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, RecursionError)  # raised by its client
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
    if error.status == 429:
        return "it has too much to do; try again later"
    if (error.status or 0) >= 500:
        return "try again: the log of the server, ml-pipeline, says more"
    return f"check {settings.PIPELINES_ENDPOINT} and {settings.PIPELINES_NAMESPACE}"


def _reason(error: ApiException) -> str:
    """Status and message of an answer, in one bounded line."""
    fields = _fields(error.body) or {}
    message = str(fields.get("message") or fields.get("error_message") or fields.get("error") or "")
    reason = clean(" ".join((message or str(error.reason or "")).split()))[:300]
    return f"{error.status} {reason}".strip() if error.status else reason


def _fields(answer: str | bytes | None) -> dict[str, Any] | None:
    """The fields of a JSON object; None for anything else."""
    try:
        fields = json.loads(answer or b"")
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


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
        configuration.api_key["authorization"] = _without_scheme(token)
    configuration.api_key_prefix["authorization"] = "Bearer"
    return None


def _without_scheme(token: str) -> str:
    """The token alone, where it was copied with its header's `Bearer`, which the client adds."""
    found = _SCHEME.match(token)
    return token[found.end() :] if found else token


def _read_token(file: str) -> str:
    try:
        token = _without_scheme(Path(file).read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise GltError(f"{settings.PIPELINES_TOKEN_FILE}: {first_line(error)}; name the file of the token") from error
    if not token or not token.isprintable():
        raise GltError(f"{settings.PIPELINES_TOKEN_FILE}: {file} holds no token; name the file of the token")
    return token
