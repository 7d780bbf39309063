"""The wheel of glt that goes with a model."""

from __future__ import annotations

import os
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import glt
from glt.errors import GltError
from glt.lifecycle.wheel import write_wheel


def built(folder: Path) -> Path:
    write_wheel(folder)
    (wheel,) = folder.iterdir()
    return wheel


def test_the_same_code_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = built(tmp_path / "one")
    os.utime(Path(glt.__file__))
    monkeypatch.chdir(tmp_path)
    second = built(tmp_path / "two")
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())


def test_it_holds_what_the_installed_package_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(built(tmp_path / "w")) as wheel:
        names = wheel.namelist()
        about = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
        record = wheel.read(names[-1]).decode().splitlines()
    package = Path(glt.__file__).parent
    wanted = {"py", "yaml", "html", "txt", "typed"}
    files = {file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert {file.suffix[1:] for file in files} <= wanted, "a kind of file that the wheel leaves out"
    assert {name for name in names if name.startswith("glt/")} == {
        file.relative_to(package.parent).as_posix() for file in files
    }
    assert "Requires-Dist: torch" in about
    assert [row.split(",")[0] for row in record] == names


@pytest.mark.parametrize(
    ("code", "version"), [("0a1b2c", "0.1.0+0a1b2c"), ("v1/dirty tree", "0.1.0+v1.dirty.tree"), ("---", "0.1.0")]
)
def test_its_version_holds_the_code_version(
    tmp_path: Path, code: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLT_CODE_VERSION", code)
    wheel = built(tmp_path / "w")
    assert wheel.name == f"glt-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as content:
        assert f"\nVersion: {version}\n" in content.read(f"glt-{version}.dist-info/METADATA").decode()


def test_where_glt_is_not_installed_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distributions", lambda name: iter(()))
    with pytest.raises(GltError, match=r"glt is not installed here"):
        write_wheel(tmp_path / "w")


def test_what_a_build_leaves_in_a_source_tree_is_not_taken_for_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone Python finds `glt.egg-info` in the working directory first."""
    expected = built(tmp_path / "before").read_bytes()
    left = tmp_path / "tree" / "glt.egg-info"
    left.mkdir(parents=True)
    (left / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: glt\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(tmp_path / "tree")
    assert metadata.distribution("glt").version == "0.0.1"
    assert built(tmp_path / "after").read_bytes() == expected
