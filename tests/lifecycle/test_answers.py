"""glt/lifecycle/answers.py: error answers without paths and tracebacks, and the log that has them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from typing import Any, NamedTuple

import pytest
from mlflow.pyfunc import scoring_server

from glt.errors import GltError
from glt.lifecycle.answers import Answers, App, Message, Receive, Send, note

SQL = "(psycopg2.errors.X) too long\n[SQL: INSERT INTO users]\n[parameters: {'password_hash': 'scrypt:abc', 'n': 1}]"
TRACE = 'Traceback (most recent call last):\n  File "/opt/venv/x.py", line 3, in f\n'


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    pieces: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def said(self) -> dict[str, str]:
        return json.loads(self.body)


def ask(app: Answers, method: str = "GET", path: str = "/x", query: bytes = b"", body: bytes = b"") -> Answer:
    """The response of a server to one request."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
    asyncio.run(app(scope, receive, send))
    start, *pieces = sent
    return Answer(start["status"], dict(start["headers"]), [piece["body"] for piece in pieces])


def answering(status: int, *pieces: str, error: Exception | None = None, noted: Exception | None = None) -> App:
    """An application with one answer, in pieces; `error` is raised after it, `noted` is what a framework caught."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        if noted is not None:
            note(noted)
        headers = [(b"content-length", b"99999"), (b"x-kept", b"yes")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for index, piece in enumerate(pieces):
            more = index + 1 < len(pieces)
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": more})
        if error is not None:
            raise error

    return app


def details(answer: Answer, log: pytest.LogCaptureFixture) -> str:
    """The log's text under the id of an answer; the answer is one line of JSON with no more than that."""
    assert set(answer.said) == {"error_code", "message"}
    assert int(answer.headers[b"content-length"]) == len(answer.body)
    assert answer.headers[b"content-type"] == b"application/json"
    found = re.fullmatch(r"[^\n]+ The server's log has the details under ([0-9a-f]{8})\.", answer.said["message"])
    assert found is not None, answer.said
    assert log.text.count(found[1]) == 1
    return log.text.partition(found[1])[2]


@pytest.mark.parametrize("text", ["Internal Server Error", '{"error_code": "INTERNAL_ERROR", "message": "no \'get\'"}'])
def test_an_error_of_the_server_is_one_line_with_an_id(text: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(Answers(answering(500, text[:9], text[9:], noted=KeyError("run"))), query=b"a=%0Ab")
    assert answer.status == 500
    assert answer.headers[b"x-kept"] == b"yes"
    assert answer.said["error_code"] == "INTERNAL_ERROR"
    assert answer.said["message"].startswith("The server cannot answer this request.")
    logged = details(answer, caplog)
    assert logged.startswith(f": GET /x?a=%0Ab was answered with 500: {text}\n")  # a request cannot forge an entry
    assert "KeyError: 'run'" in logged


@pytest.mark.parametrize("begun", [False, True])
def test_an_error_that_nobody_caught_is_answered_and_logged(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Message, receive: Receive, send: Send) -> None:
        raise ValueError("in the middle")

    app = answering(500, "Internal Server Error", error=ValueError("in the middle")) if begun else broken
    answer = ask(Answers(app))
    assert answer.status == 500
    assert "ValueError: in the middle" in details(answer, caplog)


def test_an_answer_that_had_begun_is_not_followed_by_another() -> None:
    with pytest.raises(ValueError, match="too late"):
        ask(Answers(answering(200, "half", error=ValueError("too late"))))


@pytest.mark.parametrize(
    "message",
    [SQL, TRACE, "cannot open /etc/mlflow/accounts.ini", f"no module in {sys.prefix}/lib", "see file:///etc/passwd"],
)
def test_details_of_the_server_stay_in_its_log(message: str, caplog: pytest.LogCaptureFixture) -> None:
    text = json.dumps({"error_code": "BAD_REQUEST", "message": message})
    answer = ask(Answers(answering(400, text)))
    assert (answer.status, answer.said["error_code"]) == (400, "BAD_REQUEST")
    logged = details(answer, caplog)
    assert message.split()[0] in logged
    assert "scrypt" not in logged
    assert answer.said["message"].startswith("The server cannot answer this request.")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, '{"message": "Invalid value 5 for parameter \'max_results\'\\nsee the documentation"}'),
        (400, '{"message": "Invalid model version source: \'/etc/passwd\'."}'),
        (404, "The requested URL /api/2.0/mlflow/nothing was not found"),
        (503, "Endpoint: /api/2.0/mlflow-artifacts/artifacts disabled"),
        (401, '["no", "object"]'),
    ],
)
def test_other_errors_are_passed_on_as_they_are(status: int, text: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(Answers(answering(status, text)), method="POST", body=b'{"source": "/etc/passwd"}')
    assert (answer.status, answer.body.decode()) == (status, text)
    assert not caplog.records


def test_a_good_answer_is_passed_on_piece_by_piece() -> None:
    app = Answers(answering(200, "Traceback (most recent call last)", "/etc/passwd"))
    assert ask(app).pieces == [b"Traceback (most recent call last)", b"/etc/passwd"]


def test_what_is_not_there_is_404(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(Answers(answering(500, "An error occurred (404)"), missing="(404)"))
    assert (answer.status, answer.said["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert answer.said["message"].startswith("There is no such artifact.")
    assert "(404)" in details(answer, caplog)


class Model:
    """The interface of a model that MLflow's model server calls; predicting fails."""

    class metadata:
        @staticmethod
        def get_input_schema() -> None:
            return None

    def __init__(self, error: Exception) -> None:
        self._error = error

    def predict(self, data: object) -> object:
        raise self._error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (GltError("clip 0 has 7 joints; give 6 joints of stick"), "clip 0 has 7 joints; give 6 joints of stick. The"),
        (GltError("/etc/passwd: damaged"), "The server cannot answer this request. The"),
        (KeyError("frames"), "Encountered an unexpected error while evaluating the model. Verify that"),
    ],
)
def test_mlflow_s_model_server_keeps_its_traceback(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # `init` sets it; here it is unset again
    server: Any = scoring_server.init(Model(error))
    caplog.set_level(logging.ERROR)
    assert b"stack_trace" in ask(server, "POST", "/invocations", body=b'{"inputs": [1]}').body
    answer = ask(Answers(server), "POST", "/invocations", body=b'{"inputs": [1]}')
    assert answer.status == 400
    assert answer.said["message"].startswith(told)
    logged = details(answer, caplog)
    assert "Traceback (most recent call last)" in logged
    assert "in predict" in logged
