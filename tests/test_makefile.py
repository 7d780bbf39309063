"""The Makefile: values reach commands as they are, whatever characters they hold; `make setup` says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOSTILE = (
    "$(touch x)",
    "$(shell touch x)",
    "`touch x`",
    "; touch x #",
    "a'b",
    'a"b',
    "$HOME ${HOME} $$",
    "a  b\\",
    "-x",
    "café #1 한글",
    "*",
    "\nnext",
)
# The variables whose values a target's commands get.
GIVEN = {
    "run": ("RECIPE", "RECORDINGS", "RUNNER"),
    "collect": ("FROM", "RECIPE", "INTO"),
    "data": ("RECORDINGS",),
    "fuzz": ("MINUTES", "SEED"),
    "compile": ("PROFILE", "IMAGE"),
    "retrain": ("RECIPE", "RECORDINGS"),
    "submit": ("GRAPH", "RECIPE", "STUDY", "RECORDINGS", "PROFILE", "NODES", "IMAGE"),
    "schedule": ("SCHEDULES", "IMAGE"),
    "image": ("IMAGE", "MLFLOW_IMAGE", "BASE", "TORCH", "TORCH_INDEX_URL"),
    "lock": ("TORCH",),
    "results": ("RECORDINGS",),
    "ablate": ("STUDY", "RECORDINGS"),
    "record": ("RECIPE",),
    "check-tests": ("WORKERS",),
}
STUB = """#!/bin/sh
# Notes its arguments and the image, a line end after each.
printf '%s\\0' "$@" "GLT_IMAGE=$GLT_IMAGE" >>"$NOTES"
case "$0" in */uv) cat >>"$NOTES"; printf '\\0' >>"$NOTES" ;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout below a folder of an awkward name, whose programs only note what they are given."""
    folder = tmp_path / "my 'own' $(touch x) checkout"
    (folder / "infra" / "local").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "infra/local/setup.sh", folder / "infra" / "local")
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_text("")
    for program in (folder / ".venv/bin/python", folder / ".venv/bin/uv", folder / "an engine"):
        stub(program, STUB)
    (folder / ".venv" / "done").write_text(f"{(folder / '.venv').resolve()}\n")
    return folder


def stub(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    names = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"} | {name for given in GIVEN.values() for name in given}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"NOTES": str(checkout.parent / "notes"), **variables}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def notes(checkout: Path) -> list[str]:
    file = checkout.parent / "notes"
    noted = file.read_text(encoding="utf-8").split("\0") if file.exists() else []
    file.unlink(missing_ok=True)
    return noted


@pytest.mark.fault("quotes, `$` or backticks in a variable of make", "passed on unchanged; no shell reads them")
@pytest.mark.parametrize("target", GIVEN)
def test_values_reach_the_command_as_they_are(checkout: Path, target: str) -> None:
    before = {path.relative_to(checkout) for path in checkout.rglob("*")}
    engine = f"ENGINE={checkout / 'an engine'}"
    for value in HOSTILE:
        given = {name: f"{name}{value}" if value != "-x" else "-x" for name in GIVEN[target]}
        on_the_line = make(checkout, target, engine, *(f"{name}={text}" for name, text in given.items()))
        in_environment = make(checkout, target, engine, **given)
        assert (on_the_line.returncode, in_environment.returncode) == (0, 0), on_the_line.stderr
        seen = [part.rstrip("\n") for part in notes(checkout)]
        for text in given.values():
            assert sum(part.endswith(text) for part in seen) >= 2, (target, value, text, seen)
        assert {path.relative_to(checkout) for path in checkout.rglob("*")} == before


def test_what_is_not_given_is_left_out(checkout: Path) -> None:
    assert make(checkout, "data").returncode == 0
    assert notes(checkout)[:4] == ["-c", "", "GLT_IMAGE=", "-m"]
    assert make(checkout, "data", "ADD=new batch.zip").returncode == 0
    assert notes(checkout)[3:-2] == ["-m", "glt", "data", "--add", "--", "new batch.zip"]
    assert make(checkout, "collect", "FROM=s3://b/p").returncode == 0
    assert notes(checkout)[3:-2] == ["-m", "glt", "collect", "--commit", "--", "s3://b/p", "sample"]
    assert make(checkout, "schedule", "DRY=1").returncode == 0
    assert notes(checkout)[3:-2] == ["-m", "pipelines", "schedule", "--dry-run", "--", "infra/schedules.yaml"]
    assert make(checkout, "image", f"ENGINE={checkout / 'an engine'}", "BUILD_ARGS=--build-arg A=b").returncode == 0
    words = notes(checkout)
    assert words[(at := words.index("BASE=python:3.11-slim")) : at + 3] == [
        "BASE=python:3.11-slim",
        "--build-arg",
        "A=b",
    ]


def test_a_target_may_be_made_without_its_setup(checkout: Path) -> None:
    """As the tests of the images do, in the environment that runs them."""
    (checkout / ".venv" / "done").unlink()
    done = make(checkout, "--old-file=setup", "image", f"ENGINE={checkout / 'an engine'}")
    assert done.returncode == 0
    assert "pip" not in notes(checkout)


def test_every_target_is_listed(checkout: Path) -> None:
    text = make(checkout).stdout
    assert {"make setup", "make run", "make clean"} <= {" ".join(line.split()[:2]) for line in text.splitlines()}


INTERPRETER = """#!/bin/sh
# Python VERSION, as far as `make setup` needs it.
case "$*" in
*platform*) echo VERSION ;;
*version_info*) exit EXIT ;;
*"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pyvenv.cfg ;;
*"pip install"*) echo "$@" >>installed; [ ! -f offline ] || { echo "ERROR: Could not find a version" >&2; exit 1; } ;;
esac
"""


def interpreter(path: Path, version: str, suits: bool) -> None:
    stub(path, INTERPRETER.replace("VERSION", version).replace("EXIT", str(int(not suits))))


@pytest.fixture
def bare(checkout: Path) -> Path:
    """A checkout before `make setup`, on a machine whose only programs are those of `programs`."""
    shutil.rmtree(checkout / ".venv")
    programs = checkout.parent / "programs"
    programs.mkdir()
    for name in ("sh", "mkdir", "cp", "touch", "find", "head", "cat", "rm", "pwd", "make"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return checkout


def set_up(bare: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return make(bare, "setup", PATH=str(bare.parent / "programs"), **variables)


@pytest.mark.fault(
    "Python too old, too new or none", "refused before torch is installed; the message says how to choose another"
)
def test_an_interpreter_that_does_not_suit_is_named_before_anything_is_installed(bare: Path) -> None:
    programs = bare.parent / "programs"
    assert "no Python 3.11 or 3.12 here (found: none); install one, then: make setup PYTHON=" in set_up(bare).stderr
    interpreter(programs / "python3", "3.14.1", suits=False)
    assert "(found: 3.14.1); install one" in set_up(bare).stderr
    assert "PYTHON=python3 is Python 3.14.1; glt needs 3.11 or 3.12" in set_up(bare, PYTHON="python3").stderr
    assert "PYTHON=nowhere/python does not run; give" in set_up(bare, PYTHON="nowhere/python").stderr
    assert not (bare / "installed").exists()
    interpreter(programs / "python3.12", "3.12.3", suits=True)
    done = set_up(bare)
    assert done.returncode == 0, done.stderr
    assert "glt: installing into .venv with Python 3.12.3" in done.stdout
    assert len((bare / "installed").read_text().splitlines()) == 3


@pytest.mark.fault(
    "no connection while packages are installed", "pip's message, then the remedy; `make setup` then resumes"
)
def test_setup_goes_on_where_it_ended(bare: Path) -> None:
    interpreter(bare.parent / "programs" / "python3.11", "3.11.9", suits=True)
    (bare / "offline").touch()
    done = set_up(bare)
    assert done.returncode == 2
    first, last, *_ = done.stderr.splitlines()
    assert first == "ERROR: Could not find a version"
    assert last.startswith("glt: error: not everything could be installed (see pip's message above); check the")
    (bare / "offline").unlink()
    assert set_up(bare).returncode == 0
    assert (set_up(bare).stdout, set_up(bare).returncode) == ("", 0)


@pytest.mark.fault("the checkout is moved", "`.venv` is made again")
def test_a_moved_checkout_is_set_up_again(bare: Path) -> None:
    interpreter(bare.parent / "programs" / "python3.11", "3.11.9", suits=True)
    assert set_up(bare).returncode == 0
    moved = bare.rename(bare.parent / "elsewhere")
    (moved / "installed").unlink()
    done = set_up(moved)
    assert f"glt: .venv was made at {bare / '.venv'}; it is made again here" in done.stdout
    assert (moved / "installed").exists()
    assert set_up(moved).stdout == ""


def test_a_folder_that_is_no_environment_is_left_alone(bare: Path) -> None:
    interpreter(bare.parent / "programs" / "python3.11", "3.11.9", suits=True)
    (bare / ".venv").mkdir()
    (bare / ".venv" / "mine.txt").write_text("mine")
    assert "this is not a Python virtual environment, so it is not replaced; move it away" in set_up(bare).stderr
    assert (bare / ".venv" / "mine.txt").read_text() == "mine"
