"""The `glt` command line: what it declares, passes on and prints."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from glt import cli, logs
from glt.errors import GltError, Interrupted, SharedError
from pipelines import __main__ as graphs

STEPS = {
    "collect": "collect:collect",
    "ingest": "data:ingest",
    "inspect": "data:inspect",
    "disentangle": "data:disentangle",
    "pretrain": "training:pretrain",
    "linear-probe": "training:linear_probe",
    "finetune": "training:finetune",
    "gate": "gate:gate",
    "register": "release:register",
    "report": "report:report",
    "attention": "attention:attention",
    "compare-models": "models:compare_models",
    "compare": "models:compare_models",
}
COMMANDS = {
    str(command.name or command.callback.__name__): command.callback
    for group in cli.app.registered_groups
    if group.typer_instance is not None
    for command in group.typer_instance.registered_commands
    if command.callback is not None
}


def declared(callback: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """The parameters of a command: name, typer's declaration, and type."""
    for name, annotation in get_type_hints(callback, include_extras=True).items():
        if name != "return":
            kind, info = get_args(annotation)
            yield name, info, kind


def step_of(command: str) -> tuple[Any, str, Callable[..., Any]]:
    """The module, the name and the function of a command's step."""
    module_name, name = STEPS[command].split(":")
    module = importlib.import_module(f"glt.steps.{module_name}")
    return module, name, getattr(module, name)


def glt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "glt", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", STEPS)
def test_a_command_takes_what_its_step_takes(command: str) -> None:
    ours = inspect.signature(COMMANDS[command]).parameters.values()
    theirs = inspect.signature(step_of(command)[2]).parameters.values()
    assert [(p.name, p.default) for p in ours if p.name != "as_json"] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize("command", STEPS)
def test_a_command_passes_everything_on(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, step = step_of(command)
    signature, seen = inspect.signature(step), {}

    def recorder(*args: Any, **kwargs: Any) -> dict[str, float]:
        seen.update(signature.bind(*args, **kwargs).arguments)
        return {"loss": 0.5}

    monkeypatch.setattr(module, name, recorder)
    arguments, expected = [], {}
    for number, (parameter, info, kind) in enumerate(declared(COMMANDS[command]), 1):
        if parameter == "as_json":
            continue
        text = str(number) if kind in (int, float) else f"value{number}"
        if isinstance(info, typer.models.ArgumentInfo):
            arguments.append(text)
            expected[parameter] = f"[PosixPath('{text}')]" if kind == list[Path] else text
        else:
            option = (info.param_decls or [f"--{parameter.replace('_', '-')}"])[0]
            arguments += [option] if kind is bool else [option, text]
            expected[parameter] = "True" if kind is bool else text
    done = CliRunner().invoke(cli.app, [command, *arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"loss": 0.5}
    assert {name: str(value).removesuffix(".0") for name, value in seen.items()} == expected


@pytest.mark.parametrize("command", ["glt", *COMMANDS])
def test_every_command_and_parameter_has_one_line_of_help(command: str) -> None:
    callback = cli.verbosity if command == "glt" else COMMANDS[command]
    first, *others = inspect.cleandoc(callback.__doc__ or "").split("\n\n")[0].splitlines()
    assert first.endswith(".")
    assert not others
    for name, info, _ in declared(callback):
        assert info.help, name
        assert info.help.endswith("."), info.help
        assert len(info.help) <= 90, info.help


def test_commands_are_shown_in_panels() -> None:
    shown = glt("--help").stdout
    places = [shown.index(f"─ {panel} ─") for panel in ("Data", "Train", "Registry", "Serve", "Reports")]
    assert places == sorted(places)
    assert "Commands" not in shown
    assert "compare-models" in shown
    assert "│ compare " not in shown


def test_version() -> None:
    done = glt("--version")
    assert done.stdout.split() == ["glt", importlib.metadata.version("glt")]


def test_recipes_are_completed() -> None:
    code = "import sys; sys.argv = ['glt']; from glt.cli import main; main()"
    words = {"_GLT_COMPLETE": "complete_bash", "COMP_WORDS": "glt model nw-", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True)
    names = done.stdout.split()
    assert "nw-ucla" in names
    assert all(name.startswith("nw-") for name in names)


def test_completion_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell is the argument's, not ours
    assert "_GLT_COMPLETE" in CliRunner().invoke(cli.app, ["--show-completion", "bash"], prog_name="glt").output


def test_json_is_alone_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, _ = step_of("collect")

    def talkative(*args: Any) -> str:
        print("data.dvc, in full")
        return "dvc+here@main"

    monkeypatch.setattr(module, name, talkative)
    done = CliRunner().invoke(cli.app, ["collect", "s3://b/p", "sample", "--json"])
    assert json.loads(done.stdout) == "dvc+here@main"
    assert "data.dvc, in full" in done.stderr


def test_metrics_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, _ = step_of("inspect")
    monkeypatch.setattr(module, name, lambda *args: {"data/clips": 12.0})
    done = CliRunner().invoke(cli.app, ["inspect", "clips", "sample", "page.html"])
    assert done.stdout.split() == ["metric", "value", "data/clips", "12"]


def test_verbose_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    plain, verbose = (glt(*option, "model", "nope") for option in ([], ["-v"]))
    assert (plain.returncode, verbose.returncode) == (1, 1)
    assert plain.stderr.startswith("glt: error: unknown recipe 'nope'")
    assert plain.stderr.count("\n") == 1
    assert "Traceback" in verbose.stderr
    assert verbose.stderr.startswith("glt: error: unknown recipe 'nope'")


def test_verbose_and_quiet_exclude_each_other() -> None:
    done = glt("-v", "-q", "recipes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "glt: error: --verbose and --quiet exclude each other; give one of them\n"


FAILING = """
import logging
from glt.errors import GltError, Interrupted, SharedError
from pipelines import __main__ as graphs
from glt.logs import run_entry

def step(kind):
    logging.getLogger("glt.steps.data").info("data report: page.html")
    logging.getLogger("glt.steps.data").debug("not shown")
    raise {"GltError": GltError, "Interrupted": Interrupted, "SharedError": SharedError}[kind]("why")

run_entry(step, "KIND")
"""


@pytest.mark.parametrize(
    ("error", "rank", "code", "line"),
    [
        (GltError, "0", 1, "glt: error: why\n"),
        (GltError, "1", 1, "glt: error: why\n"),
        (SharedError, "0", 1, "glt: error: why\n"),
        (SharedError, "1", 1, ""),
        (Interrupted, "0", 143, "glt: error: why\n"),
    ],
)
def test_a_component_ends_with_one_line_and_the_code_of_its_error(
    error: type[GltError], rank: str, code: int, line: str
) -> None:
    text = FAILING.replace("KIND", error.__name__)
    done = subprocess.run(
        [sys.executable, "-c", text], env=os.environ | {"RANK": rank}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"glt: data report: page.html\n{line}")


def test_another_error_keeps_its_traceback() -> None:
    text = "from glt.logs import run_entry\nrun_entry(lambda: 1 / 0)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_importing_sets_up_no_output() -> None:
    text = "import sys, logging; before = sys.excepthook; import glt.cli, glt.steps.release\n"
    text += "print(sys.excepthook is before, logging.getLogger('glt').handlers, logging.getLogger().handlers)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stdout == "True [] []\n"


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from glt.reporter import ConsoleReporter

    logs.set_verbosity(-1)
    try:
        ConsoleReporter().progress("pretrain", 1, 2)
        assert capsys.readouterr() == ("", "")
    finally:
        logs.set_verbosity(0)
    ConsoleReporter().progress("pretrain", 1, 2)
    assert "pretrain" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["verbosity", "run", "retrain", "ablate", "arms", "compile_graph", "submit", "schedule"]
)
def test_the_graphs_commands_have_help_too(command: str) -> None:
    callback = getattr(graphs, command)
    assert (callback.__doc__ or "").endswith(".")
    for name, info, _ in declared(callback):
        assert info.help, name
        assert info.help.endswith("."), info.help
