"""Error answers of HTTP servers, without paths and tracebacks: one line, and an id under which the log has the rest.

`Answers` needs only Python's own library: the image `glt-mlflow` has this file, and no other of glt.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

REMEMBERED = 65536  # bytes of a request in which a path is looked up
LOGGED = 10000  # characters of a hidden answer
_TRACE = re.compile(r'Traceback \(most recent call last\)|File "[^"\n]+", line \d|\[SQL: |\(\w+\.\w*Error\)|psycopg2\.')
_GLT_ERROR = "glt.errors.GltError: "
_PASSWORD = re.compile(r"(?<='password_hash': ')[^']*")  # in the parameters of a statement
_TOP = "|".join(map(re.escape, sorted(entry.name for entry in Path("/").iterdir())))
_PATH = re.compile(rf"(?:file://|(?<![\w.:/-]))(/(?:{_TOP})/[\w.@+/-]+)")
_logger = logging.getLogger("uvicorn.error")  # the logger that both servers print


@dataclass
class _Request:
    line: str
    text: bytearray = field(default_factory=bytearray)
    error: BaseException | None = None


_current: ContextVar[_Request] = ContextVar("request")


def note(error: BaseException) -> None:
    """Log this error beside the answer to the current request, if that answer is hidden."""
    if (request := _current.get(None)) is not None:
        request.error = error


class Answers:
    """An ASGI application whose error answers name neither files of the server nor its code.

    An answer with status 500, and any other error answer with a traceback, a statement of SQL, or a path of this
    machine that is not in the request, is logged and replaced by a JSON object of two strings: `error_code`, and a
    `message` of one line that has the id of the log's entry. A field `stack_trace` is removed and logged.
    """

    def __init__(self, app: App, missing: str = "") -> None:
        """Wrap an application.

        Args:
            app: the application.
            missing: text in an answer with status 500 that means that an artifact is not there; answered with 404.
        """
        self._app, self._missing = app, missing

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI prescribes it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        request = _Request(f"{scope['method']} {quote(scope['path'])}" + f"?{query}" * bool(query))
        _current.set(request)
        start: Message | None = None  # of an error answer, held back until its body is there
        body = bytearray()
        begun = False

        async def remember() -> Message:
            message = await receive()
            request.text += message.get("body", b"")[: REMEMBERED - len(request.text)]
            return message

        async def hold_errors(message: Message) -> None:
            nonlocal start, begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is not None and message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
            else:
                begun = True
                await send(message)

        try:
            await self._app(scope, remember, hold_errors)
        except Exception as error:
            if begun:
                raise
            request.error = error
            start = start or {"type": "http.response.start", "status": 500, "headers": []}
        if start is not None:
            changed, content = self._without_details(start, bytes(body), request)
            await send(changed)
            await send({"type": "http.response.body", "body": content})

    def _without_details(self, start: Message, body: bytes, request: _Request) -> tuple[Message, bytes]:
        status, text = start["status"], body.decode("utf-8", "replace")
        given = _json_object(text)
        trace = str(given.pop("stack_trace", None) or "")
        message, code = str(given.get("message", "")), str(given.get("error_code", ""))
        if trace:
            message = _users_error(trace) or message
        if status == 500 and self._missing and self._missing in text:
            status, code, message = 404, "RESOURCE_DOES_NOT_EXIST", "There is no such artifact."
        elif status == 500 or _names_details(message if trace else text, request):
            message = "The server cannot answer this request."
        elif not trace:
            return start, body
        entry = secrets.token_hex(4)
        details = trace or _PASSWORD.sub("...", " ".join(text.split()))[:LOGGED]
        _logger.error("%s: %s was answered with %d: %s", entry, request.line, status, details, exc_info=request.error)
        message = f"{' '.join(message.split())} The server's log has the details under {entry}."
        code = code or ("INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST")
        content = json.dumps({"error_code": code, "message": message}).encode()
        replaced = (b"content-length", b"content-type", b"content-encoding")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in replaced]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        return {**start, "status": status, "headers": headers}, content


def _users_error(trace: str) -> str:
    """The message of a traceback's GltError, which is for users; empty for other errors."""
    last = trace.strip().splitlines()[-1]
    return f"{last.removeprefix(_GLT_ERROR)}." if last.startswith(_GLT_ERROR) else ""


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _names_details(text: str, request: _Request) -> bool:
    asked = unquote(request.line) + request.text.decode("utf-8", "replace")
    return bool(_TRACE.search(text)) or any(path not in asked for path in _PATH.findall(text))


def become_model_server(folder: str, port: int) -> NoReturn:
    """Replace this process by MLflow's model server of a local folder, on 127.0.0.1."""
    from mlflow.pyfunc import scoring_server

    from glt import settings

    os.environ.pop(settings.SIGNING_KEY, None)  # the server signs nothing
    os.environ[scoring_server._SERVER_MODEL_PATH] = folder
    app = ["--factory", f"{__name__}:{model_server.__name__}"]
    os.execv(sys.executable, [sys.executable, "-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", str(port)])


def model_server() -> Answers:
    """The application that uvicorn serves in `become_model_server`."""
    from mlflow.pyfunc.scoring_server.app import app

    return Answers(app)
