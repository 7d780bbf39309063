"""A mistyped path costs nobody a file: what is not ours stays, byte for byte, and the command says so in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import CliRunner

from glt import artifact, cli
from glt.errors import GltError
from glt.outputs import FileKind
from pipelines.graphs import write_graphs
from tests.analysis.conftest import recordings

# The arguments of every command that writes to a path its user names, and the place of that path among them.
FOLDERS = {
    "ingest": ["recordings", "sample", "OUT"],
    "disentangle": ["clips", "sample", "OUT"],
    "pretrain": ["motions", "sample", "OUT"],
    "linear-probe": ["motions", "encoder", "sample", "OUT"],
    "finetune": ["motions", "encoder", "sample", "0.05", "0", "OUT"],
    "attention": ["motions", "encoder", "OUT"],
}
FILES = {
    "inspect": ["clips", "sample", "OUT"],
    "gate": ["clips", "classifier", "sample", "OUT"],
    "report": ["clips", "motions", "encoder", "classifier", "classifier", "verdict.json", "sample", "OUT"],
    "compare-models": ["glt-a/1", "glt-a/2", "--out", "OUT"],
    "predict": ["recordings", "--out", "OUT"],
}
KINDS = {"ingest": "clips", "disentangle": "motions", "pretrain": "encoder", "attention": "attention"}

Obstacle = Callable[[Path, str], Path]


def kind_of(command: str) -> str:
    return KINDS.get(command, "classifier")


def tree(folder: Path) -> dict[str, object]:
    """Every path below a folder with its content, mode and time."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[path.relative_to(folder).as_posix()] = (state.st_mode, state.st_mtime_ns, content)
    return found


def make(path: Path, kind: str) -> Path:
    with artifact.create(path, kind, {}) as draft:
        (draft / "weights").write_bytes(b"\x00\x01")
    return path


def fill(folder: Path, kind: str) -> Path:
    """Somebody's recordings."""
    (folder / "thesis" / "deep").mkdir(parents=True)
    (folder / "thesis" / "a01_s01_e00_v01.json").write_text("{}")
    (folder / "thesis" / "deep" / ".hidden").write_text("notes")
    return folder / "thesis"


def file(folder: Path, kind: str) -> Path:
    (folder / "thesis.pdf").write_bytes(b"%PDF")
    return folder / "thesis.pdf"


def below_a_file(folder: Path, kind: str) -> Path:
    return file(folder, kind) / "out"


def link_to_a_filled_folder(folder: Path, kind: str) -> Path:
    (folder / "link").symlink_to(fill(folder, kind))
    return folder / "link"


def another_kind(folder: Path, kind: str) -> Path:
    return make(folder / "other", "segment")


def own_kind_with_a_foreign_file(folder: Path, kind: str) -> Path:
    out = make(folder / "mine", kind)
    (out / "notes.txt").write_text("what I saw")
    return out


def own_kind_with_a_damaged_manifest(folder: Path, kind: str) -> Path:
    out = make(folder / "mine", kind)
    (out / artifact.MANIFEST).write_text("[" * 100_000)
    return out


def foreign_manifest(folder: Path, kind: str) -> Path:
    """As npm, browsers and others name their own files."""
    (folder / "app").mkdir()
    (folder / "app" / artifact.MANIFEST).write_text('{"name": "app", "version": 3}')
    return folder / "app"


FOREIGN_FILES = {
    "index.html": "<!DOCTYPE html><html><head><title>Mine</title></head></html>",
    "labels.csv": "name,label\na,b\n",
    "checked.csv": "clip,label,confidence,seen\na,b,0.5,yes\n",  # predictions, and a column of the user's own
    "settings.json": '{"passed": true}',
}


def foreign(name: str) -> Obstacle:
    """An obstacle that writes the file of this name."""

    def write(folder: Path, kind: str) -> Path:
        (folder / name).write_text(FOREIGN_FILES[name])
        return folder / name

    return write


def link_to_a_file(folder: Path, kind: str) -> Path:
    (folder / "link.html").symlink_to(foreign("index.html")(folder, kind))
    return folder / "link.html"


def commands() -> dict[str, list[str]]:
    """Names of the parameters of every command that has an `out`."""
    group = typer.main.get_command(cli.app)
    every = {name: [str(p.name) for p in one.params] for name, one in group.commands.items()}  # type: ignore[attr-defined]
    return {name: names for name, names in every.items() if "out" in names}


def assert_rejected(command: str, arguments: list[str], out: Path) -> None:
    result = CliRunner().invoke(
        typer.main.get_command(cli.app), [command, *(a if a != "OUT" else str(out) for a in arguments)]
    )
    assert isinstance(result.exception, GltError), (result.output, result.exception)
    message = str(result.exception)
    assert message.startswith(f"{out}: ")
    assert "give another path" in message
    assert "\n" not in message


def test_every_command_that_writes_where_it_is_told_is_tried_here() -> None:
    assert commands().keys() - {"compare"} == FOLDERS.keys() | FILES.keys()


@pytest.mark.parametrize(
    "obstacle",
    [
        *(fill, file, below_a_file, link_to_a_filled_folder, another_kind, own_kind_with_a_foreign_file),
        *(own_kind_with_a_damaged_manifest, foreign_manifest),
    ],
)
@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_that_is_not_ours_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, obstacle: Obstacle
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    out = obstacle(tmp_path, kind_of(command))
    before = tree(tmp_path)
    assert_rejected(command, FOLDERS[command], out)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "obstacle",
    [fill, file, below_a_file, link_to_a_file, *map(foreign, FOREIGN_FILES)],
    ids=["fill", "file", "below_a_file", "link_to_a_file", *FOREIGN_FILES],
)
@pytest.mark.parametrize("command", FILES)
def test_a_file_that_is_not_ours_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, obstacle: Obstacle
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    out = obstacle(tmp_path, "")
    before = tree(tmp_path)
    assert_rejected(command, FILES[command], out)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["clips.html", "clips.rejected.csv"])
def test_files_beside_the_clips_that_are_not_ours_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    refused_path = tmp_path / name
    result = CliRunner().invoke(
        typer.main.get_command(cli.app), ["ingest", "recordings", "sample", str(tmp_path / "clips")]
    )
    assert str(result.exception).startswith(f"{refused_path}: ")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["loop", "loop/out", "x" * 250, "x" * 300])
@pytest.mark.parametrize("command", ["disentangle", "inspect"])
def test_a_path_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    (tmp_path / "loop").symlink_to("loop")
    assert_rejected(command, (FOLDERS | FILES)[command], tmp_path / name)


@pytest.mark.parametrize("command", ["disentangle", "inspect"])
def test_a_read_only_folder_is_reported_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert_rejected(command, (FOLDERS | FILES)[command], tmp_path / "new" / "out")


def test_recordings_given_as_their_own_output_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    given = tmp_path / "given"
    given.mkdir()
    recordings(given / "recordings.zip")
    before = tree(tmp_path)
    for path in (given, given / "recordings.zip"):
        assert_rejected("ingest", [str(path), "nw-ucla", "OUT"], path)
        assert tree(tmp_path) == before


@pytest.mark.fault("an output inside the recordings", "refused at once, and nothing is left there")
def test_an_output_inside_the_recordings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    given = tmp_path / "given"
    given.mkdir()
    recordings(given / "recordings.zip")
    assert_rejected("ingest", [str(given), "nw-ucla", "OUT"], given / "sub" / "clips")
    assert tree(given).keys() == {"recordings.zip"}


def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_rejected("disentangle", FOLDERS["disentangle"], Path())


@pytest.mark.parametrize("before", ["missing", "empty", "same kind", "same kind, changed", "link to the same kind"])
def test_an_artifact_takes_the_place_of_its_own_kind(tmp_path: Path, before: str) -> None:
    out = tmp_path / "out"
    if before == "empty":
        out.mkdir()
    elif before.startswith("same kind"):
        make(out, "thing")
    elif before.startswith("link"):
        out.symlink_to(make(tmp_path / "elsewhere", "thing"))
    if before.endswith("changed"):
        (out / "weights").write_bytes(b"changed")
    with artifact.create(out, "thing", {"seed": 1}) as draft:
        (draft / "other").write_text("new")
    assert artifact.open_artifact(out, "thing") == {"seed": 1}
    assert artifact.files(out).keys() == {"other"}
    assert out.is_symlink() == before.startswith("link")


def test_what_appears_while_an_artifact_is_made_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def disturbed() -> None:
        with artifact.create(out, "thing", {}):
            out.mkdir()
            (out / "mine").write_text("notes")

    with pytest.raises(GltError, match="holds 1 files that are not glt's"):
        disturbed()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


KIND = FileKind("table", lambda content: content.startswith(b"a,b"))


@pytest.mark.parametrize("before", [None, b"", b"a,b\n1,2\n"])
def test_a_file_takes_the_place_of_its_own_kind(tmp_path: Path, before: bytes | None) -> None:
    out = tmp_path / "out.csv"
    if before is not None:
        out.write_bytes(before)
    KIND.write(out, b"a,b\n3,4\n")
    assert out.read_bytes() == b"a,b\n3,4\n"


def test_a_link_to_a_file_of_its_own_kind_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_bytes(b"a,b\n")
    (tmp_path / "link.csv").symlink_to("real.csv")
    KIND.write(tmp_path / "link.csv", b"a,b\n3,4\n")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_bytes() == b"a,b\n3,4\n"


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GltError, match="not a table written by glt"):
        KIND.write(tmp_path / "pipe", b"a,b\n")


def test_a_graph_replaces_only_the_graph_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "retraining.yaml").write_text("# PIPELINE DEFINITION\n# Name: mine\n")
    before = tree(tmp_path)
    with pytest.raises(GltError, match=r"retraining\.yaml: this file is not a compiled graph retraining"):
        write_graphs("cpu", tmp_path)
    assert tree(tmp_path) == before


def test_clean_leaves_models_and_recordings(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "Makefile", tmp_path)
    for name in ("runs/mlflow.db", "data/sample.zip", ".venv/done", "build/training.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    subprocess.run(["make", "-s", "-C", tmp_path, "clean"], check=True)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
        ".venv/done",
        "Makefile",
        "data/sample.zip",
        "runs/mlflow.db",
    ]
