"""Commands that are given nonsense end with one line and exit code 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from glt import cli, logs
from glt.cli import reports
from glt.lifecycle import answers

COMMANDS: dict[str, Any] = {
    name: command for name, command in typer.main.get_group(cli.app).commands.items() if command.params
}
NONSENSE = ["", "~", "file", "folder", "x" * 300, f"a/{'é' * 200}/b", "/proc/self/mem", "*", "[a", "sampel", "s3://"]
OF_OPTIONS = {"", "~", "file", "folder", "x" * 300}
NUMBERS = {int: "1", float: "0.5"}


def given(parameter: Any, value: str) -> str:
    return NUMBERS.get(parameter.type_descriptor.annotation, value)


def lines(command: Any, value: str) -> Iterator[list[str]]:
    """Arguments with the value everywhere, in one argument, and in one option."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.is_flag]
    must = [word for one in options if one.required for word in (one.opts[0], "because")]
    right = [given(one, "sample" if one.name == "recipe" else "folder") for one in arguments]
    yield [*must, "--", *(given(one, value) for one in arguments)]
    for position in range(len(arguments)):
        yield [*must, "--", *(given(arguments[n], value) if n == position else word for n, word in enumerate(right))]
    for option in options if value in OF_OPTIONS else ():
        if (
            option.name not in ("data_version", "code_version", "because")
            and option.type_descriptor.annotation not in NUMBERS
        ):
            yield [*must, option.opts[0], value, "--", *right]


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file and a folder that are nothing, and no server that is started."""
    (tmp_path / "folder").mkdir()
    for file in ("file", "folder/file.txt"):
        (tmp_path / file).write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(reports, "become_mlflow", lambda *_: None)
    monkeypatch.setattr(answers, "become_model_server", lambda *_: None)
    return tmp_path


@pytest.mark.fault("nonsense as an argument of any command", "one line, exit code 1 or 2")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("ui", "doctor")])
def test_nonsense_ends_in_one_line(name: str, somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried = {tuple(line): None for value in NONSENSE for line in lines(COMMANDS[name], value)}
    for line in tried:
        with pytest.raises(SystemExit) as ended:
            logs.run_entry(cli.app, args=[name, *line])
        said = capsys.readouterr().err.strip()
        if ended.value.code == 0 and name == "new-key":  # any name of a new folder is right
            continue
        if ended.value.code == 2:
            assert "Usage:" in said, line
            continue
        assert ended.value.code == 1, (line, said)
        assert [text.startswith("glt: error: ") for text in said.splitlines()] == [True], (line, said)
        assert len(said) < 1000, line
    assert (somewhere / "file").read_text() == (somewhere / "folder" / "file.txt").read_text() == "x"
