"""Progress for people, without a terminal."""

from __future__ import annotations

import pytest

from glt.reporter import ConsoleReporter, Silent


def test_a_line_now_and_then_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter(every=1000)
    for done in range(5):
        reporter.progress("pretrain", done, 4, f"loss {done}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["pretrain", "░" * 20, "0/4", "loss", "0"]
    assert lines[1].split() == ["pretrain", "█" * 20, "4/4", "loss", "4"]


def test_the_time_left_is_reported(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    reporter = ConsoleReporter(every=1)
    for done in (0, 1, 2):
        reporter.progress("ingest", done, 4)
    first, second, third = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert second.endswith("30 s left")
    assert third.endswith("20 s left")
    assert "█" * 10 + "░" * 10 in third


def test_tasks_do_not_silence_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter(every=1000)
    reporter.progress("ingest", 0, 2)
    reporter.progress("features", 0, 2)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Silent().progress("ingest", 1, 2)
    Silent().metrics({"a": 1.0})
    ConsoleReporter().metrics({"a": 1.0})
    assert capsys.readouterr() == ("", "")
