"""The commands that serve take the next free port, and say so."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from glt.cli import ports, reports
from glt.errors import GltError


@pytest.mark.fault("glt ui or glt serve on a port that is taken", "the next free port is used and printed")
def test_a_taken_port_is_passed_by(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    became: list[str] = []
    monkeypatch.setenv("GLT_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("glt.lifecycle.tracking.connect", lambda: None)
    monkeypatch.setattr(reports, "become_mlflow", lambda *arguments: became.extend(arguments))
    with socket.socket() as other, caplog.at_level(logging.WARNING, "glt"):
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        reports.ui(taken)
    given = int(became[became.index("--port") + 1])
    assert taken < given <= taken + 100
    assert f"MLflow on http://127.0.0.1:{given}" in capsys.readouterr().out
    assert caplog.messages == [f"port {taken}: in use by another program; using port {given}"]


@pytest.mark.parametrize("port", [0, -1, 65536, 10**20])
def test_a_number_that_is_no_port_is_named(port: int) -> None:
    with pytest.raises(GltError, match=rf"^--port {port}: not a TCP port; give one from 1 to 65535$"):
        ports.next_free(port)
