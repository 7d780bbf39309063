"""The Kubeflow Pipelines server as a client sees it: its answers are bounded, its version and address are read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from packaging.version import Version

from glt.errors import GltError
from glt.lifecycle import kubeflow
from tests.pipelines.server_stub import API, Stub, running_stub

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PATIENCE = 0.4  # seconds


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with running_stub(monkeypatch) as made:
        yield made


def send_slowly(server: socket.socket, start: bytes) -> None:
    """Answer one request with `start`, and then a byte now and then."""
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(start)
        try:
            while True:
                time.sleep(PATIENCE / 4)
                connection.sendall(b" ")
        except OSError:
            return


@pytest.mark.parametrize("start", [JSON + b"Content-Length: 1000\r\n\r\n", JSON + b"X-Slow: ", b"HTTP/1.1 404 Not"])
def test_an_answer_that_comes_byte_by_byte_takes_no_longer_than_our_patience(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=send_slowly, args=(server, start), daemon=True).start()
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(GltError, match=r"does not answer: no whole answer within 0\.4 seconds"):
            kubeflow.describe(kubeflow.connect(PATIENCE))
        assert time.monotonic() - begun < 10 * PATIENCE


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_does_not_choose_how_long_we_wait(stub: Stub, status: int) -> None:
    stub.answers[f"{API}/healthz"] = (status, {"message": "slow"})
    stub.more_headers = {"Retry-After": "3600"}
    with pytest.raises(GltError, match=f"{status} slow; .*try again"):
        kubeflow.describe(kubeflow.connect(5))
    assert len(stub.headers) == 1


def test_too_long_an_answer_is_refused(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "LONGEST", 1 << 20)
    stub.answers[f"{API}/healthz"] = (200, {"tag_name": "2.17.0", "more": "x" * (1 << 20)})
    with pytest.raises(GltError, match="an answer of more than 1 MiB"):
        kubeflow.describe(kubeflow.connect())


def test_json_that_is_nested_too_deep_is_not_an_answer(stub: Stub) -> None:
    stub.answers[f"{API}/healthz"] = (200, b"[" * 200_000)
    stub.more_headers = {"Content-Type": "application/json"}
    with pytest.raises(GltError, match="does not come from Kubeflow Pipelines"):
        kubeflow.describe(kubeflow.connect())


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("2.17.0", "2.17.0"),
        ("2.14", "2.14.0"),
        ("v2.16.1", "2.16.1"),
        ("2.16.0-rc.1", "2.16.0rc1"),
        ("2.16.0-RC2", "2.16.0rc2"),
        ("sdk-2.14.0", "2.14.0"),
        ("dev-2.3", "2.3"),
        ("2.16.0-a1b2c3d", "2.16.0"),
        ("2.16.0-amd64", "2.16.0"),
        ("2.17.0\x1b[31m", "2.17.0"),
        ("2.99999.0", None),
        ("a1b2c3d", None),
        ("17", None),
        ("latest", None),
        ("", None),
    ],
)
def test_the_version_is_read_from_the_tag(stub: Stub, tag: str, version: str | None) -> None:
    stub.health["tag_name"] = tag
    assert kubeflow.describe(kubeflow.connect()).version == (version and Version(version))


@pytest.mark.parametrize("tag", ["2.14", "2.16.0-rc.1", "dev-2.3"])
def test_a_short_or_early_version_is_too_old(stub: Stub, tag: str) -> None:
    stub.health["tag_name"] = tag
    with pytest.raises(GltError, match=f"is {tag}, but the graphs need 2.16.0"):
        kubeflow.require("host", kubeflow.describe(kubeflow.connect()))


@pytest.mark.parametrize("place", ["/#/runs", "/?ns=lab", "/_/pipeline/", "/_/pipeline/?ns=lab#/runs", " /x"])
def test_the_address_of_a_page_is_refused(stub: Stub, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", stub.address.replace("://", "://me:secret@") + place)
    with pytest.raises(GltError, match="KF_PIPELINES_ENDPOINT: it is the address of a page; give") as caught:
        kubeflow.connect()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["abc", "Bearer abc", "bearer  abc"])
def test_a_token_may_be_given_with_its_scheme(stub: Stub, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", token)
    kubeflow.describe(kubeflow.connect())
    assert stub.headers[0]["authorization"] == "Bearer abc"
