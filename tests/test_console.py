"""What comes from data is printed as text: no markup, no control characters, no colours where nobody sees them."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.tree import Tree

from glt import logs
from glt.cli import output, serve
from glt.console import cell, print_tree
from glt.outputs import csv_bytes
from glt.reporter import ConsoleReporter
from pipelines.console import StepDisplay

HOSTILE = "[bold]a[/] [/] [link=file:///etc]b :smile: \x1b[31mred\x07 \x9b2J \u202eabc\\"
SHOWN = "[bold]a[/] [/] [link=file:///etc]b :smile: %1B[31mred%07 %C2%9B2J %E2%80%AEabc\\"


@pytest.mark.fault("markup or control characters in a label or name", "printed as text")
def test_tables_and_trees_are_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output.print_table(["label"], [[HOSTILE]])
    tree = Tree(HOSTILE)
    tree.add(HOSTILE)
    print_tree(tree)
    output.run(False, lambda: HOSTILE)
    shown = capsys.readouterr().out
    assert shown.count(SHOWN) == 4
    assert "\x1b" not in shown


@pytest.mark.fault("markup or control characters in a label or name", "printed as text")
def test_logs_and_progress_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("glt.x", logging.WARNING, "", 0, "%s", (HOSTILE,), None)
    assert logs._Line().format(record) == f"glt: {SHOWN}"
    ConsoleReporter().progress(HOSTILE, 1, 2, HOSTILE)
    shown = capsys.readouterr().err
    assert shown.count(SHOWN) == 2
    assert "\x1b" not in shown


@pytest.mark.fault("markup or control characters in a label or name", "printed as text")
def test_a_progress_bar_is_text() -> None:
    """On a terminal, where rich draws it."""
    leader, follower = pty.openpty()
    code = (
        "from glt.reporter import ConsoleReporter as R\nr = R()\nr.progress('[red]t[/x]', 1, 2, '[link=a]n\\x1b[31m')\n"
    )
    code += "r.progress('[red]t[/x]', 2, 2, '[link=a]n\\x1b[31m')"
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "150", "NO_COLOR": "1"}
    subprocess.run([sys.executable, "-c", code], stderr=follower, check=True, env=environment)
    shown = os.read(leader, 65536).decode()
    os.close(follower)
    os.close(leader)
    assert "[red]t[/x]" in shown
    assert "[link=a]n%1B[31m" in shown
    assert "\x1b[31m" not in shown


@pytest.mark.fault("markup or control characters in a label or name", "printed as text")
def test_lines_of_a_step_are_text() -> None:
    screen, log = io.StringIO(), io.StringIO()
    StepDisplay(screen, log).write(f"    \x1b[95mglt: error: {HOSTILE}\n")
    assert screen.getvalue().count("\x1b") == 0
    assert "[bold]a[/] [/]" in screen.getvalue()
    assert "\x1b[95m" not in log.getvalue()


@pytest.mark.parametrize("arguments", [["recipes"], ["model", "nope"]])
def test_no_colours_where_nobody_sees_them(arguments: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    done = subprocess.run([sys.executable, "-m", "glt", *arguments], capture_output=True, check=False, env=environment)
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_cell_is_one_line() -> None:
    assert cell("a\nb\tc\r") == "a b c%0D"


@pytest.mark.fault(
    "a label in a CSV that a spreadsheet takes for a formula", "stored so that the spreadsheet shows it as text"
)
def test_predictions_are_neutral_in_a_spreadsheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = pd.DataFrame({"clip": ["=1+1"], "label": ["@cmd"], "confidence": [0.5]})
    rejected = pd.DataFrame(columns=["source", "check", "reason"])
    monkeypatch.setattr("glt.steps.predict.predict", lambda *arguments: (answers, rejected))
    serve.classify("x", out=tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "clip,label,confidence\n'=1+1,'@cmd,0.5\n"


@pytest.mark.fault("a formula as a name or a label", "text in every CSV that is written for people")
def test_every_table_for_people_is_neutral() -> None:
    table = pd.DataFrame({"=name": ["=1+1", "@x"], "label": ["-2", None], "score": [-0.5, 1.0]})
    assert csv_bytes(table).decode() == "'=name,label,score\n'=1+1,'-2,-0.5\n'@x,,1.0\n"
    root = Path(output.__file__).parents[1]
    writers = [
        file for file in root.rglob("*.py") if ".to_csv(" in file.read_text() or "csv.writer" in file.read_text()
    ]
    assert [file.name for file in writers] == ["outputs.py"]
